-- One batch of activity for users of one shard: mark who practised, behind the gate's door, and move what is due.
--
-- KEYS  epoch, the three due sets (move.lua), then gate:{shard}:bucket:date for each bucket (shared/gate/keys.py)
-- ARGV  guard, seconds to keep, a number of lessons, of timers; a number of users for each bucket; then lessons and
--       timers (move.lua): the lessons of the first bucket's users, of the second's, and so on, and at the end those
--       that are not to be marked. Who practised on two dates has two lessons.
--
-- Bit 0 of a value is "practised" (shared/gate/value.py); so does shared/gate/lua/practised.lua.

local buckets = #KEYS - 4
local first = 5 + buckets
local word = first

for i = 1, buckets do
  local key = KEYS[4 + i]
  local writes, w = {}, 0
  for _ = 1, tonumber(ARGV[4 + i]) do
    local id = ARGV[word]
    local value = redis.call('HGET', key, id)
    if not value or band(tonumber(value), 1) == 0 then
      writes[w + 1], writes[w + 2] = id, value and value + 1 or '1'
      w = w + 2
    end
    word = word + 4
  end
  if w > 0 then
    redis.call('HSET', key, unpack(writes))
    redis.call('EXPIRE', key, ARGV[2])
  end
end
move(2, first, tonumber(ARGV[3]), tonumber(ARGV[4]))
return 'OK'
