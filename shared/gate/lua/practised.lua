-- Mark users of one shard as having practised.
--
-- KEYS[i]  gate:{shard}:bucket:date  hash: user id -> value (shared/gate/value.py)
-- ARGV     seconds to keep; then for each i: n, user id * n
-- Answers how many were not marked before.

local keep, at, marked = ARGV[1], 2, 0

for i = 1, #KEYS do
  local n = tonumber(ARGV[at])
  local ids = {}
  for j = 1, n do ids[j] = ARGV[at + j] end
  at = at + n + 1

  local values = redis.call('HMGET', KEYS[i], unpack(ids))
  local writes = {}
  for j = 1, n do
    local value = tonumber(values[j] or 0)
    if bit.band(value, 1) == 0 then
      writes[#writes + 1] = ids[j]
      writes[#writes + 1] = value + 1
    end
  end
  if #writes > 0 then
    redis.call('HSET', KEYS[i], unpack(writes))
    redis.call('EXPIRE', KEYS[i], keep)
    marked = marked + #writes / 2
  end
end
return marked
