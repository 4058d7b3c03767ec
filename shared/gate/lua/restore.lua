-- What a rebuild knows of users of one shard, merged upwards: a state that is there is never lowered, so rebuilds may
-- meet one another and the claims of a gate that is open: free, claimed, opted out, settled, from low to high. Not
-- guarded: it is for gates that are closed.
--
-- KEYS  gate:{shard}:bucket:date for each bucket
-- ARGV  seconds to keep; a number of facts for each bucket; then user id, kind code and state of each fact
--       (value.py); kind code -1: practised; kind codes 4 and 5, whatever the state: opted out of campaigns; erased
-- Answers how many values it changed.

local band, rshift, lshift = bit.band, bit.rshift, bit.lshift
local at, changed = 1 + #KEYS, 0

for i = 1, #KEYS do
  local n = tonumber(ARGV[1 + i])
  local touched = false
  for j = 1, n do
    local id, kind, new = ARGV[at + 3 * j - 2], tonumber(ARGV[at + 3 * j - 1]), tonumber(ARGV[at + 3 * j])
    local before = tonumber(redis.call('HGET', KEYS[i], id) or 0)
    local value = before
    if kind < 0 then
      value = value - band(value, 1) + 1
    elseif kind == 4 then
      value = value - band(value, 65536) + 65536
    elseif kind == 5 then
      value = value - band(value, 131072) + 131072
    else
      local shift = 1 + 3 * kind
      local state = band(rshift(value, shift), 7)
      local settled, settles = state == 3 or state == 4, new == 3 or new == 4
      if state == 0 or (not settled and (settles or new == 5)) then value = value + lshift(new - state, shift) end
    end
    if value ~= before then
      redis.call('HSET', KEYS[i], id, value)
      touched, changed = true, changed + 1
    end
  end
  if touched then redis.call('EXPIRE', KEYS[i], ARGV[1]) end
  at = at + 3 * n
end
return changed
