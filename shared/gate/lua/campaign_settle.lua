-- Settle sends of one campaign and shard: a provider accepted them.
--
-- KEYS  epoch, then campaign:{shard}:bucket:name for each bucket
-- ARGV  run id, seconds to keep the campaign; a number of users for each bucket; then the user ids
-- Answers how many it wrote.

local buckets = #KEYS - 1
local at = 2 + buckets

for i = 1, buckets do
  local n = tonumber(ARGV[2 + i])
  local writes = {}
  for j = 1, n do
    writes[2 * j - 1], writes[2 * j] = ARGV[at + j], 2
  end
  redis.call('HSET', KEYS[i + 1], unpack(writes))
  redis.call('EXPIRE', KEYS[i + 1], ARGV[2])
  at = at + n
end
return #ARGV - 2 - buckets
