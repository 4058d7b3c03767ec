-- How claimed sends of one path stand at the moment of delivery, for users of one shard. Writes nothing.
--
-- KEYS  epoch, then gate:{shard}:bucket:date for each bucket
-- ARGV  run id, path; a number of sends for each bucket; then user id and kind code of each send
-- Answers one digit a send, in order (contract.py Standing; the rules are those of value.py standing).

local path = tonumber(ARGV[2])
local buckets = #KEYS - 1
local at, answers = 2 + buckets, {}
local stopped = {}

for i = 1, buckets do
  local n = tonumber(ARGV[2 + i])
  local ids = {}
  for j = 1, n do ids[j] = ARGV[at + 2 * j - 1] end
  local values = redis.call('HMGET', KEYS[i + 1], unpack(ids))
  for j = 1, n do
    local kind = ARGV[at + 2 * j]
    if stopped[kind] == nil then stopped[kind] = paused(ARGV[2], kind, '') end
    local value = tonumber(values[j] or 0)
    local state = band(rshift(value, 1 + 3 * tonumber(kind)), 7)
    local answer
    if state == path + 2 then answer = '1'
    elseif state == 5 or value >= 131072 then answer = '4'  -- Opted out, or erased.
    elseif state == path and band(value, 1) == 1 then answer = '2'
    elseif stopped[kind] then answer = '5'
    elseif state == path then answer = '0'
    else answer = '3' end
    answers[#answers + 1] = answer
  end
  at = at + 2 * n
end
return table.concat(answers)
