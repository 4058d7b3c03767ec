-- One batch of activity for users of some shards: mark who practised, behind the gate's door, and move what is due.
--
-- KEYS  of each shard: epoch, the three due sets (move.lua), then gate:{shard}:bucket:date for each bucket
--       (shared/gate/keys.py)
-- ARGV  guard, seconds to keep, a number of shards; then of each shard: a number of buckets, of lessons, of timers; a
--       number of users for each bucket; then lessons and timers (move.lua): the lessons of the first bucket's users,
--       of the second's, and so on, and at the end those that are not to be marked. Who practised on two dates has
--       two lessons.
--
-- Bit 0 of a value is "practised" (shared/gate/value.py); so does shared/gate/lua/practised.lua.

local key, word = 1, 4
for shard = 1, tonumber(ARGV[3]) do
  if shard > 1 then
    local lost = closed(KEYS[key], redis.call('GET', KEYS[key]))
    if lost then return lost end
  end
  local buckets, lessons, timers = tonumber(ARGV[word]), tonumber(ARGV[word + 1]), tonumber(ARGV[word + 2])
  local first = word + 3 + buckets
  local at = first
  for i = 1, buckets do
    local bucket = KEYS[key + 3 + i]
    local writes, w = {}, 0
    for _ = 1, tonumber(ARGV[word + 2 + i]) do
      local id = ARGV[at]
      local value = redis.call('HGET', bucket, id)
      if not value or band(tonumber(value), 1) == 0 then
        writes[w + 1], writes[w + 2] = id, value and value + 1 or '1'
        w = w + 2
      end
      at = at + 4
    end
    if w > 0 then
      redis.call('HSET', bucket, unpack(writes))
      redis.call('EXPIRE', bucket, ARGV[2])
    end
  end
  move(key + 1, first, lessons, timers)
  key = key + 4 + buckets
  word = first + 4 * lessons + 2 * timers
end
return 'OK'
