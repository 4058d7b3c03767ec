-- One keyset page of the silent users of a shard that stand on a planned slot, in slot order, then by id.
-- The slots that are left come as parallel arrays; each is one descent of ix_users_silent. Devices: the live
-- ones of the page's users only, by primary key. FCM tokens beside APNs' and the e-mail address:
-- empty where there is none in use.
SELECT page.id, page.locale, page.streak, page.opted_out, page.n, page.email, page.unanswered, d.ids, d.platforms,
       d.tokens, d.fcm_tokens
FROM (
  SELECT u.id, u.locale, u.streak, u.opted_out, slot.n, u.unanswered,
         CASE WHEN NOT u.email_opted_out AND u.email_retired_at IS NULL THEN coalesce(u.email, '') ELSE '' END AS email
  FROM unnest(%(numbers)s::int[], %(zones)s::text[], %(dates)s::date[]) AS slot(n, time_zone, last_active_date)
  JOIN users u ON u.shard = %(shard)s AND u.time_zone = slot.time_zone AND u.last_active_date = slot.last_active_date
  WHERE (slot.n, u.id) > (%(after_slot)s, %(after_id)s)
  ORDER BY slot.n, u.id
  LIMIT %(limit)s
) page
LEFT JOIN LATERAL (
  SELECT array_agg(device_id ORDER BY device_id) AS ids, array_agg(platform ORDER BY device_id) AS platforms,
         array_agg(token ORDER BY device_id) AS tokens,
         array_agg(CASE WHEN fcm_retired_at IS NULL THEN coalesce(fcm_token, '') ELSE '' END ORDER BY device_id)
           AS fcm_tokens
  FROM devices WHERE user_id = page.id AND retired_at IS NULL
) d ON true
ORDER BY page.n, page.id
