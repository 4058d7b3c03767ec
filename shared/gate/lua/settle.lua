-- Settle sends of one path and shard: a provider accepted them. A fact, whatever became of the claim meanwhile (the
-- gate may have been rebuilt without it, or the user opted out while the provider was being called).
--
-- KEYS  epoch, then gate:{shard}:bucket:date for each bucket
-- ARGV  run id, path, seconds to keep; a number of sends for each bucket; then user id and kind code of each send
-- Answers how many were not settled before.

local settled, keep = tonumber(ARGV[2]) + 2, ARGV[3]
local buckets = #KEYS - 1
local at, changed = 3 + buckets, 0

for i = 1, buckets do
  local n = tonumber(ARGV[3 + i])
  local values, touched = {}, false
  for j = 1, n do
    local id = ARGV[at + 2 * j - 1]
    local shift = 1 + 3 * tonumber(ARGV[at + 2 * j])
    -- One user may have two kinds in a call: read again what was just written.
    local value = values[id] or tonumber(redis.call('HGET', KEYS[i + 1], id) or 0)
    local state = band(rshift(value, shift), 7)
    if state ~= settled then
      value = value + lshift(settled - state, shift)
      redis.call('HSET', KEYS[i + 1], id, value)
      changed, touched = changed + 1, true
    end
    values[id] = value
  end
  if touched then redis.call('EXPIRE', KEYS[i + 1], keep) end
  at = at + 2 * n
end
return changed
