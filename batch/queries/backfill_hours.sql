-- Which hours of a backfill have anybody due in which of its shards: one descent of ix_users_silent a slot and shard, which
-- stops at the first user of the slot's part of the hour.
SELECT DISTINCT slot.hour, place.shard
FROM unnest(%(hours)s::int[], %(zones)s::text[], %(dates)s::date[], %(lows)s::int[], %(highs)s::int[])
  AS slot(hour, time_zone, last_active_date, low, high)
CROSS JOIN unnest(%(shards)s::smallint[]) AS place(shard)
CROSS JOIN LATERAL (
  SELECT FROM users u
  WHERE u.shard = place.shard AND u.time_zone = slot.time_zone AND u.last_active_date = slot.last_active_date
    AND surnia_spread(u.id) >= slot.low AND surnia_spread(u.id) < slot.high
  LIMIT 1
) somebody
