-- The devices in use of some users, by primary key, user by user as the ids are sorted; columns as in page.sql. The FCM
-- token beside APNs' is empty where there is none in use.
SELECT array_agg(user_id), string_agg(device_id, ''), array_agg(octet_length(device_id)),
       array_agg((platform = 'ios')::int), string_agg(token, ''), array_agg(octet_length(token)),
       string_agg(fcm_token, ''), array_agg(octet_length(fcm_token))
FROM (
  SELECT user_id, device_id, platform, token,
         CASE WHEN fcm_retired_at IS NULL THEN coalesce(fcm_token, '') ELSE '' END AS fcm_token
  FROM devices
  WHERE user_id = ANY(%(users)s::bigint[]) AND retired_at IS NULL
  ORDER BY user_id, device_id
) AS device
