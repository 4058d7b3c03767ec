-- The rows that a scan reads: the users of some slots with their devices.
COPY (
  SELECT slot.n, u.id, u.locale, u.streak, u.opted_out, u.email, d.device_id, d.platform, d.token, d.fcm_token
  FROM generate_series(0, %(shards)s::int - 1) AS shards(shard)
  CROSS JOIN unnest(%(numbers)s::int[], %(zones)s::text[], %(dates)s::date[], %(lows)s::int[], %(highs)s::int[])
    AS slot(n, time_zone, last_active_date, low, high)
  JOIN users u ON u.shard = shards.shard AND u.time_zone = slot.time_zone AND u.last_active_date = slot.last_active_date
    AND surnia_spread(u.id) >= slot.low AND surnia_spread(u.id) < slot.high
  LEFT JOIN devices d ON d.user_id = u.id AND d.retired_at IS NULL
) TO STDOUT
