-- Leave the mark of a rebuild: if it is gone by the end, the data was lost once more in between.
--
-- KEYS[1]  rebuild:{shard}  hash: token of a running rebuild -> guard of the server it began on
-- ARGV     guard, token, seconds to keep

redis.call('HSET', KEYS[1], ARGV[2], ARGV[1])
return redis.call('EXPIRE', KEYS[1], ARGV[3])
