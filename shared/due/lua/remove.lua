-- Take fired users out of one shard's due set, or move them to a later time, unless an event moved them meanwhile: the
-- event wins.
--
-- KEYS[1]  due:{shard}:kind  sorted set: user id -> due, unix seconds
-- ARGV     n, (user id, the due time it was fired for) * n           to take out
--          m, (user id, the due time it was found at, later time) * m  to move
-- Answers how many it took out.

local n = tonumber(ARGV[1])
local removed = 0
if n > 0 then
  local ids = {}
  for i = 1, n do ids[i] = ARGV[2 * i] end
  local scores = redis.call('ZMSCORE', KEYS[1], unpack(ids))
  local gone, g = {}, 0
  for i = 1, n do
    local score = scores[i]
    if score and tonumber(score) <= tonumber(ARGV[2 * i + 1]) then
      g = g + 1
      gone[g] = ids[i]
    end
  end
  if g > 0 then removed = redis.call('ZREM', KEYS[1], unpack(gone)) end
end
local at = 2 * n + 3
for _ = 1, tonumber(ARGV[2 * n + 2]) do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[at])
  -- GT: never earlier than where it is.
  if score and tonumber(score) <= tonumber(ARGV[at + 1]) then
    redis.call('ZADD', KEYS[1], 'XX', 'GT', ARGV[at + 2], ARGV[at])
  end
  at = at + 3
end
return removed
