-- Apply one batch of activity to the due index of one shard.
--
-- KEYS[1..3]  due:{shard}:practice, :streak_saver, :abandoned_lesson  sorted sets: user id -> due, unix seconds
-- ARGV        n, (user id, practice due, streak saver due, started before) * n   for completed lessons
--             (an empty due leaves that set as it is)
--             m, (user id, due) * m                                             for started lessons
--
-- GT: an event that comes late or twice never moves a reminder to an earlier time.
-- A completed lesson takes away the abandoned-lesson timer of lessons started before it, not of later ones.

local at = 2
for _ = 1, tonumber(ARGV[1]) do
  local id, practice, streak, before = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if practice ~= '' then redis.call('ZADD', KEYS[1], 'GT', practice, id) end
  if streak ~= '' then redis.call('ZADD', KEYS[2], 'GT', streak, id) end
  local timer = redis.call('ZSCORE', KEYS[3], id)
  if timer and tonumber(timer) <= tonumber(before) then redis.call('ZREM', KEYS[3], id) end
  at = at + 4
end
local n = tonumber(ARGV[at])
for _ = 1, n do
  redis.call('ZADD', KEYS[3], 'GT', ARGV[at + 2], ARGV[at + 1])
  at = at + 2
end
return 'OK'
