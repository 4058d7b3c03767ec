-- Vouch for a shard's data: from here on the gate answers for it.
--
-- KEYS[1]  epoch:{shard}    string (door.lua)
-- KEYS[2]  rebuild:{shard}  hash (begin.lua)
-- ARGV     guard, token of the rebuild, epoch, rules
-- Answers 1; 0 where the data was lost, or the server was another one, since the rebuild began.

local opened = ARGV[1] .. ' ' .. ARGV[3] .. ' '
-- Open already: asked again, because the first answer did not arrive.
local again = string.sub(redis.call('GET', KEYS[1]) or '', 1, #opened) == opened
if not again and redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('SET', KEYS[1], opened .. ARGV[4])
return 1
