-- Replace the pause rules of a shard that is open.
--
-- KEYS[1]  epoch:{shard}  string (door.lua)
-- ARGV     guard, rules
-- Answers 1, or 0 where the shard is closed: then its rebuild brings the rules.

local epoch = redis.call('GET', KEYS[1])
if not epoch or (ARGV[1] ~= '' and string.sub(epoch, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ') then return 0 end
local opened = string.match(epoch, '^(%S* %S+ )')
redis.call('SET', KEYS[1], opened .. ARGV[2])
return 1
