-- Mark users of one shard as having practised.
--
-- KEYS  epoch, then gate:{shard}:bucket:date for each bucket
-- ARGV  run id, seconds to keep; a number of users for each bucket; then the user ids
-- Answers how many were not marked before.

local buckets = #KEYS - 1
local at, marked = 2 + buckets, 0

for i = 1, buckets do
  local n = tonumber(ARGV[2 + i])
  local values = redis.call('HMGET', KEYS[i + 1], unpack(ARGV, at + 1, at + n))
  local writes, w = {}, 0
  for j = 1, n do
    local value = values[j]
    if not value or band(tonumber(value), 1) == 0 then
      -- As text where it can be: Lua's number formatting would cost more than all the rest.
      writes[w + 1], writes[w + 2] = ARGV[at + j], value and value + 1 or '1'
      w = w + 2
    end
  end
  if w > 0 then
    redis.call('HSET', KEYS[i + 1], unpack(writes))
    redis.call('EXPIRE', KEYS[i + 1], ARGV[2])
    marked = marked + w / 2
  end
  at = at + n
end
return marked
