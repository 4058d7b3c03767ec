-- Claim sends of one kind and local date for one path, for users of one shard.
--
-- KEYS  epoch, tally:{shard}:date, then gate:{shard}:bucket:date for each bucket (shared/gate/keys.py); with a weekly cap
--       each followed by those of the six dates before
-- ARGV  run id, path, kind code, daily cap, seconds to keep, weekly cap (0: none); a number of users for each bucket; then
--       the user ids, bucket by bucket, those of one user side by side
-- Answers one digit a user, in order (contract.py Claim).

local path, kind, cap, keep = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local weekly = tonumber(ARGV[6])
local dates = weekly > 0 and 7 or 1
local buckets = (#KEYS - 2) / dates
local first = 6 + buckets
if paused(ARGV[2], ARGV[3], '') then return string.rep('7', #ARGV - first) end

local shift = 1 + 3 * kind
local taken = lshift(path, shift)
-- As text: Lua's own number formatting would cost more than all the rest of a claim.
local fresh = tostring(taken)
local answers, tally, granted = {}, {}, 0
local at = first

for i = 1, buckets do
  local n, place = tonumber(ARGV[6 + i]), 3 + (i - 1) * dates
  local values = redis.call('HMGET', KEYS[place], unpack(ARGV, at + 1, at + n))
  local week = weekly > 0 and had(place + 1, place + 6, at + 1, at + n)
  local writes, w = {}, 0
  local last, last_value
  for j = 1, n do
    local id = ARGV[at + j]
    local value = values[j]
    local answer = '0'
    if id == last then value = last_value end
    if not value and week and week[j] >= weekly then
      answer = '8'
      tally[answer] = (tally[answer] or 0) + 1
    elseif not value then
      value = taken
      writes[w + 1], writes[w + 2] = id, fresh
      w = w + 2
      granted = granted + 1
    else
      value = tonumber(value)
      local state = band(rshift(value, shift), 7)
      if value >= 131072 then answer = '6'  -- Erased.
      -- Our own claim first: who repeats a crashed page must get the answers that the page got.
      elseif state == path then answer = '1'
      elseif state == path + 2 then answer = '2'
      elseif band(value, 1) == 1 then answer = '3'
      elseif state == 5 then answer = '6'
      elseif state ~= 0 then answer = '4'
      elseif count(value) >= cap then answer = '5'
      elseif week and week[j] + count(value) >= weekly then answer = '8'
      else
        value = value + taken
        writes[w + 1], writes[w + 2] = id, value
        w = w + 2
      end
      tally[answer] = (tally[answer] or 0) + 1
    end
    last, last_value = id, value
    answers[at + j - first] = answer
  end
  if w > 0 then
    redis.call('HSET', KEYS[place], unpack(writes))
    redis.call('EXPIRE', KEYS[place], keep)
  end
  at = at + n
end
if granted > 0 then tally['0'] = (tally['0'] or 0) + granted end
for answer, n in pairs(tally) do
  redis.call('HINCRBY', KEYS[2], ARGV[2] .. ':' .. ARGV[3] .. ':' .. answer, n)
end
redis.call('EXPIRE', KEYS[2], keep)
return table.concat(answers)
