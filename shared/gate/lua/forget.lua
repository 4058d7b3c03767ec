-- Take users of one shard out of their days, for they were deleted, and leave a tombstone where something of theirs may
-- still be on its way: it denies claims and makes delivery drop what was claimed, and goes with its key.
--
-- KEYS  epoch, then for each bucket the keys gate:{shard}:bucket:date of a number of dates, those with a tombstone first
-- ARGV  run id, tombstone, seconds to keep it, dates with one, dates; a number of users for each bucket; then the user ids
-- Answers how many fields it took away, for each user, in order; tombstones are none.

local stone, keep, stones, dates = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local buckets = (#KEYS - 1) / dates
local at, answers = 5 + buckets, {}

for i = 1, buckets do
  local n, first = tonumber(ARGV[5 + i]), 1 + (i - 1) * dates
  for j = 1, n do
    local id, removed = ARGV[at + j], 0
    for d = 1, stones do
      local value = redis.call('HGET', KEYS[first + d], id)
      if value ~= stone then
        redis.call('HSET', KEYS[first + d], id, stone)
        if value then removed = removed + 1 end
      end
    end
    for d = stones + 1, dates do removed = removed + redis.call('HDEL', KEYS[first + d], id) end
    answers[#answers + 1] = removed
  end
  for d = 1, stones do redis.call('EXPIRE', KEYS[first + d], keep) end
  at = at + n
end
return answers
