-- What is needed of users whose reminder is due, by primary key: a row for each of their live devices, one with NULLs where
-- there is none. The e-mail address is empty where there is none that may be written to, as is an FCM token beside APNs'
-- where none is in use. Arrays of devices would be fewer rows, and a quarter more work for the database.
SELECT u.id, u.time_zone, u.locale, u.streak, u.opted_out, u.last_practice_date, u.last_active_date,
       CASE WHEN NOT u.email_opted_out AND u.email_retired_at IS NULL THEN coalesce(u.email, '') ELSE '' END AS email,
       d.device_id, d.platform, d.token,
       CASE WHEN d.fcm_retired_at IS NULL THEN coalesce(d.fcm_token, '') ELSE '' END AS fcm_token
FROM users u
LEFT JOIN devices d ON d.user_id = u.id AND d.retired_at IS NULL
WHERE u.id = ANY(%s::bigint[])
