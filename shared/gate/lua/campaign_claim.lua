-- Claim sends of one campaign, one a user however often it is triggered, for users of one shard.
--
-- KEYS  epoch, tally:{shard}:date, then for each bucket campaign:{shard}:bucket:name and gate:{shard}:bucket:date, with a
--       weekly cap also those of the six dates before
-- ARGV  run id, path, kind code, daily cap, seconds to keep, weekly cap (0: none), campaign, seconds to keep the campaign;
--       a number of users for each bucket; then the user ids, bucket by bucket
-- Answers one digit a user, in order (contract.py Claim).

local path, kind, cap, keep, weekly = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local campaign, keep_campaign = ARGV[7], ARGV[8]
local keys = weekly > 0 and 8 or 2
local buckets = (#KEYS - 2) / keys
local at = 8 + buckets
if paused(path, kind, campaign) then return string.rep('7', #ARGV - at) end

local answers, tally = {}, {}
for i = 1, buckets do
  local n, place = tonumber(ARGV[8 + i]), 3 + (i - 1) * keys
  local users, days = KEYS[place], KEYS[place + 1]
  local states = redis.call('HMGET', users, unpack(ARGV, at + 1, at + n))
  local values = redis.call('HMGET', days, unpack(ARGV, at + 1, at + n))
  local week = weekly > 0 and had(place + 2, place + 7, at + 1, at + n)
  local claims, writes, last = {}, {}, nil
  for j = 1, n do
    local id, state, value = ARGV[at + j], tonumber(states[j] or 0), tonumber(values[j] or 0)
    if id == last then state = 1 end
    local answer
    if value >= 131072 then answer = '6'  -- Erased.
    elseif state > 0 then answer = state == 1 and '1' or '2'
    elseif band(value, 1) == 1 then answer = '3'
    elseif band(value, 65536) ~= 0 then answer = '6'
    elseif count(value) >= cap then answer = '5'
    elseif week and week[j] + count(value) >= weekly then answer = '8'
    else
      answer = '0'
      claims[#claims + 1] = id
      claims[#claims + 1] = '1'
      writes[#writes + 1] = id
      writes[#writes + 1] = value + 8192
      last = id
    end
    answers[#answers + 1] = answer
    tally[answer] = (tally[answer] or 0) + 1
  end
  if #claims > 0 then
    redis.call('HSET', users, unpack(claims))
    redis.call('EXPIRE', users, keep_campaign)
    redis.call('HSET', days, unpack(writes))
    redis.call('EXPIRE', days, keep)
  end
  at = at + n
end
for answer, n in pairs(tally) do
  redis.call('HINCRBY', KEYS[2], path .. ':' .. kind .. ':' .. answer, n)
end
redis.call('EXPIRE', KEYS[2], keep)
return table.concat(answers)
