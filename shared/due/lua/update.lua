-- Apply activity to the due index of one shard, whatever the gate says: for rebuilds.
--
-- KEYS  the three due sets (move.lua)
-- ARGV  a number of lessons and of timers, then these

move(1, 3, tonumber(ARGV[1]), tonumber(ARGV[2]))
return 'OK'
