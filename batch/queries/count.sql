-- How many stand on some slots, in the part of the hour that is theirs, by time zone.
SELECT slot.time_zone, sum(found.users)::bigint
FROM unnest(%(numbers)s::int[], %(zones)s::text[], %(dates)s::date[], %(lows)s::int[], %(highs)s::int[])
  AS slot(n, time_zone, last_active_date, low, high)
CROSS JOIN unnest(%(shards)s::smallint[]) AS shards(shard)
CROSS JOIN LATERAL (
  SELECT count(*) AS users
  FROM users u
  WHERE u.shard = shards.shard AND u.time_zone = slot.time_zone AND u.last_active_date = slot.last_active_date
    AND surnia_spread(u.id) >= slot.low AND surnia_spread(u.id) < slot.high
) AS found
WHERE found.users > 0
GROUP BY 1
ORDER BY 1
