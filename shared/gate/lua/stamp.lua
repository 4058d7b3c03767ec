-- Vouch for a shard's data on this server because somebody knows that it is whole: after a restart or a failover that
-- lost nothing.
--
-- KEYS[1]  epoch:{shard}  string (door.lua)
-- ARGV     guard, epoch
-- Answers 1; 0 where there is no epoch: then the data is gone, whatever somebody knows.

local epoch = redis.call('GET', KEYS[1])
if not epoch then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. string.match(epoch, '^%S* %S+ (.*)$'))
return 1
