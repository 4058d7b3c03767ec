-- Take fired users out of one shard's due set, unless an event moved them meanwhile: the event wins.
--
-- KEYS[1]  due:{shard}:kind  sorted set: user id -> due, unix seconds
-- ARGV     (user id, the due time it was fired for) * n
-- Answers how many it removed.

local removed = 0
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) <= tonumber(ARGV[i + 1]) then
    removed = removed + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return removed
