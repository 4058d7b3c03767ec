-- Which hours of a backfill have anybody due in which of its shards: one descent of ix_users_silent a slot and shard, which
-- stops at the first user.
SELECT DISTINCT slot.hour, place.shard
FROM unnest(%(numbers)s::int[], %(zones)s::text[], %(dates)s::date[]) AS slot(hour, time_zone, last_active_date)
CROSS JOIN unnest(%(shards)s::smallint[]) AS place(shard)
CROSS JOIN LATERAL (
  SELECT FROM users u
  WHERE u.shard = place.shard AND u.time_zone = slot.time_zone AND u.last_active_date = slot.last_active_date
  LIMIT 1
) somebody
