-- Claim sends of one kind for one path, for users of one shard.
--
-- KEYS[2i-1]  gate:{shard}:bucket:date  hash: user id -> value (shared/gate/value.py)
-- KEYS[2i]    tally:{shard}:date        hash: "path:kind code" -> claims granted, each counted once
-- ARGV        path, kind code, daily cap, seconds to keep; then for each i: n, user id * n
-- Answers one digit a user, in order (contract.py Claim).

local path, kind, cap, keep = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local shift = 4 + 3 * kind
local unit = bit.lshift(1, shift)
local answers, at = {}, 5

for i = 1, #KEYS, 2 do
  local n = tonumber(ARGV[at])
  local ids = {}
  for j = 1, n do ids[j] = ARGV[at + j] end
  at = at + n + 1

  local values = redis.call('HMGET', KEYS[i], unpack(ids))
  local writes, granted = {}, 0
  local seen = {}
  for j = 1, n do
    local id = ids[j]
    local value = seen[id] or tonumber(values[j] or 0)
    local state = bit.band(bit.rshift(value, shift), 7)
    local answer
    -- Our own claim first: who repeats a crashed page must get the answers that the page got.
    if state == path then answer = 1
    elseif state == path + 2 then answer = 2
    elseif bit.band(value, 1) == 1 then answer = 3
    elseif state ~= 0 then answer = 4
    elseif bit.band(bit.rshift(value, 1), 7) >= cap then answer = 5
    else
      answer = 0
      value = value + path * unit + 2
      seen[id] = value
      writes[#writes + 1] = id
      writes[#writes + 1] = value
      granted = granted + 1
    end
    answers[#answers + 1] = answer
  end
  if granted > 0 then
    redis.call('HSET', KEYS[i], unpack(writes))
    redis.call('EXPIRE', KEYS[i], keep)
    redis.call('HINCRBY', KEYS[i + 1], path .. ':' .. kind, granted)
    redis.call('EXPIRE', KEYS[i + 1], keep)
  end
end
return table.concat(answers)
