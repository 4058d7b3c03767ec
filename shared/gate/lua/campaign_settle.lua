-- Settle sends of one campaign and shard: a provider accepted them. A fact, as in settle.lua: one that was not claimed,
-- because the gate lost it, counts for its date from now on.
--
-- KEYS  epoch, then for each bucket campaign:{shard}:bucket:name and gate:{shard}:bucket:date
-- ARGV  guard, seconds to keep the campaign, seconds to keep the date; a number of users for each bucket; then the user
--       ids, those of one user side by side
-- Answers how many were not settled before.

local buckets = (#KEYS - 1) / 2
local at, changed = 3 + buckets, 0

for i = 1, buckets do
  local n = tonumber(ARGV[3 + i])
  local users, days = KEYS[2 * i], KEYS[2 * i + 1]
  local states = redis.call('HMGET', users, unpack(ARGV, at + 1, at + n))
  local writes, w, last, counted = {}, 0, nil, false
  for j = 1, n do
    local id = ARGV[at + j]
    if states[j] ~= '2' and id ~= last then
      writes[w + 1], writes[w + 2] = id, 2
      w = w + 2
      if not states[j] then
        local value = tonumber(redis.call('HGET', days, id) or 0)
        -- Three bits: one more would become the next one's.
        if band(rshift(value, 13), 7) < 7 then redis.call('HSET', days, id, value + 8192) end
        counted = true
      end
    end
    last = id
  end
  if w > 0 then
    redis.call('HSET', users, unpack(writes))
    redis.call('EXPIRE', users, ARGV[2])
    changed = changed + w / 2
  end
  if counted then redis.call('EXPIRE', days, ARGV[3]) end
  at = at + n
end
return changed
