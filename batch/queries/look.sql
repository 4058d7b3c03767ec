-- Which of these shards have anybody on which of these slots, in the part of the hour that is asked for: a descent of
-- ix_users_silent for each pair, and one row of a user at most. Answers two arrays, shards and slots' numbers.
SELECT array_agg(shards.shard), array_agg(slot.n)
FROM unnest(%(shards)s::int[]) AS shards(shard)
CROSS JOIN unnest(%(numbers)s::int[], %(zones)s::text[], %(dates)s::date[], %(lows)s::int[], %(highs)s::int[])
  AS slot(n, time_zone, last_active_date, low, high)
CROSS JOIN LATERAL (
  SELECT FROM users u
  WHERE u.shard = shards.shard AND u.time_zone = slot.time_zone AND u.last_active_date = slot.last_active_date
    AND surnia_spread(u.id) >= slot.low AND surnia_spread(u.id) < slot.high
  LIMIT 1
) AS anybody
