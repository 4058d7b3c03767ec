-- Which kinds users of one shard do not want, on a local date. A claim that is not settled is taken back.
--
-- KEYS  epoch, then gate:{shard}:bucket:date for each bucket
-- ARGV  run id, seconds to keep; a number of users for each bucket; then user id and bits of kind codes of each
-- Answers how many values it changed.

local buckets = #KEYS - 1
local at, changed = 2 + buckets, 0

for i = 1, buckets do
  local n = tonumber(ARGV[2 + i])
  local touched = false
  for j = 1, n do
    local id, kinds = ARGV[at + 2 * j - 1], tonumber(ARGV[at + 2 * j])
    local before = tonumber(redis.call('HGET', KEYS[i + 1], id) or 0)
    local value = before
    for kind = 0, 3 do
      local shift = 1 + 3 * kind
      local state = band(rshift(value, shift), 7)
      if band(rshift(kinds, kind), 1) == 1 then
        if state < 3 then value = value + lshift(5 - state, shift) end
      elseif state == 5 then
        value = value - lshift(5, shift)
      end
    end
    local campaigns = band(rshift(kinds, 4), 1) * 65536
    value = value - band(value, 65536) + campaigns
    if value ~= before then
      redis.call('HSET', KEYS[i + 1], id, value)
      touched, changed = true, changed + 1
    end
  end
  if touched then redis.call('EXPIRE', KEYS[i + 1], ARGV[2]) end
  at = at + 2 * n
end
return changed
