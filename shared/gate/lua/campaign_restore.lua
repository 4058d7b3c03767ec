-- What a rebuild knows of a campaign's users of one shard, merged upwards as in restore.lua.
--
-- KEYS  for each bucket campaign:{shard}:bucket:name and gate:{shard}:bucket:date
-- ARGV  seconds to keep the campaign, seconds to keep the date (0: it is over, and not counted for any more); a number
--       of users for each bucket; then user id and state (1 claimed, 2 settled) of each
-- Answers how many values it changed.

local at, changed = 2 + #KEYS / 2, 0
local counts = tonumber(ARGV[2]) > 0

for i = 1, #KEYS / 2 do
  local users, days = KEYS[2 * i - 1], KEYS[2 * i]
  local n = tonumber(ARGV[2 + i])
  for j = 1, n do
    local id, new = ARGV[at + 2 * j - 1], tonumber(ARGV[at + 2 * j])
    local state = tonumber(redis.call('HGET', users, id) or 0)
    if new > state then
      redis.call('HSET', users, id, new)
      changed = changed + 1
    end
    if state == 0 and counts then
      local value = tonumber(redis.call('HGET', days, id) or 0)
      -- Three bits: one more would become the next one's.
      if bit.band(bit.rshift(value, 13), 7) < 7 then redis.call('HSET', days, id, value + 8192) end
    end
  end
  redis.call('EXPIRE', users, ARGV[1])
  if counts then redis.call('EXPIRE', days, ARGV[2]) end
  at = at + 2 * n
end
return changed
