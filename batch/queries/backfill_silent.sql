-- The silent users of a shard that stand on the slots of a plan, as a dry run needs them: no tokens, no addresses, only
-- whether there are any. Each slot is one descent of ix_users_silent.
SELECT u.id, slot.n, u.opted_out, u.unanswered,
       EXISTS (SELECT FROM devices d WHERE d.user_id = u.id AND d.retired_at IS NULL) AS has_device,
       u.email IS NOT NULL AND NOT u.email_opted_out AND u.email_retired_at IS NULL AS has_email
FROM unnest(%(numbers)s::int[], %(zones)s::text[], %(dates)s::date[], %(lows)s::int[], %(highs)s::int[])
  AS slot(n, time_zone, last_active_date, low, high)
JOIN users u ON u.shard = %(shard)s AND u.time_zone = slot.time_zone AND u.last_active_date = slot.last_active_date
  AND surnia_spread(u.id) >= slot.low AND surnia_spread(u.id) < slot.high
ORDER BY slot.n, u.id
