-- How claimed sends of one campaign stand at the moment of delivery, for users of one shard. Writes nothing.
--
-- KEYS  epoch, then for each bucket campaign:{shard}:bucket:name and gate:{shard}:bucket:date
-- ARGV  run id, path, kind code, campaign; a number of users for each bucket; then the user ids
-- Answers one digit a user, in order (contract.py Standing).

local buckets = (#KEYS - 1) / 2
local at, answers = 4 + buckets, {}
local stopped = paused(ARGV[2], ARGV[3], ARGV[4])

for i = 1, buckets do
  local n = tonumber(ARGV[4 + i])
  local states = redis.call('HMGET', KEYS[2 * i], unpack(ARGV, at + 1, at + n))
  local values = redis.call('HMGET', KEYS[2 * i + 1], unpack(ARGV, at + 1, at + n))
  for j = 1, n do
    local state, value = tonumber(states[j] or 0), tonumber(values[j] or 0)
    local answer
    if state == 2 then answer = '1'
    elseif value >= 65536 then answer = '4'  -- Opted out, or erased.
    elseif state == 1 and band(value, 1) == 1 then answer = '2'
    elseif stopped then answer = '5'
    elseif state == 1 then answer = '0'
    else answer = '3' end
    answers[#answers + 1] = answer
  end
  at = at + n
end
return table.concat(answers)
