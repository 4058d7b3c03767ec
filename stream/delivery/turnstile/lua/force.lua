#!lua flags=allow-oom
-- Hold a provider open or closed, whatever comes back from it, until it is reset (the hash is deleted).
--
-- KEYS[1]  provider:{shard}:name  hash (ask.lua)
-- ARGV     open or closed, who, why, when (unix seconds)

redis.call('HSET', KEYS[1], 'forced', ARGV[1], 'by', ARGV[2], 'reason', ARGV[3], 'at', ARGV[4], 'state', 'closed')
-- What was asked for before it says nothing about what comes after it.
redis.call('HINCRBY', KEYS[1], 'turn', 1)
redis.call('PERSIST', KEYS[1])
return 1
