-- What is needed of users whose reminder is due, by primary key; devices as parallel arrays, live ones only, their FCM
-- tokens beside APNs' empty where there is none in use; the e-mail address, empty where there is none that may be written to.
SELECT u.id, u.time_zone, u.locale, u.streak, u.opted_out, u.last_practice_date, u.last_active_date,
       d.ids, d.platforms, d.tokens, d.fcm_tokens,
       CASE WHEN NOT u.email_opted_out AND u.email_retired_at IS NULL THEN coalesce(u.email, '') ELSE '' END AS email
FROM users u
LEFT JOIN LATERAL (
  SELECT array_agg(device_id ORDER BY device_id) AS ids, array_agg(platform ORDER BY device_id) AS platforms,
         array_agg(token ORDER BY device_id) AS tokens,
         array_agg(CASE WHEN fcm_retired_at IS NULL THEN coalesce(fcm_token, '') ELSE '' END ORDER BY device_id)
           AS fcm_tokens
  FROM devices WHERE user_id = u.id AND retired_at IS NULL
) d ON true
WHERE u.id = ANY(%s::bigint[])
