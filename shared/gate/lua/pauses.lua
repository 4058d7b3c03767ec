-- The pauses in force at a shard that is open.
--
-- KEYS[1]  epoch:{shard}  string (door.lua)
-- ARGV     guard
-- Answers the epoch key's value.

return epoch
