-- Settle claims of one path and shard: a provider accepted these sends.
--
-- KEYS[i]  gate:{shard}:bucket:date  hash: user id -> value (shared/gate/value.py)
-- ARGV     path, seconds to keep; then for each i: n, (user id, kind code) * n
-- Answers how many it settled; a claim that is settled or not this path's stays as it is.

local path, keep, at, settled = tonumber(ARGV[1]), ARGV[2], 3, 0

for i = 1, #KEYS do
  local n = tonumber(ARGV[at])
  local values, changed = {}, false
  for j = 1, n do
    local id = ARGV[at + 2 * j - 1]
    local shift = 4 + 3 * tonumber(ARGV[at + 2 * j])
    -- One user may have two kinds in a call: read again what was just written.
    local value = values[id] or tonumber(redis.call('HGET', KEYS[i], id) or 0)
    if bit.band(bit.rshift(value, shift), 7) == path then
      value = value + bit.lshift(2, shift)
      redis.call('HSET', KEYS[i], id, value)
      settled, changed = settled + 1, true
    end
    values[id] = value
  end
  at = at + 2 * n + 1
  if changed then redis.call('EXPIRE', KEYS[i], keep) end
end
return settled
