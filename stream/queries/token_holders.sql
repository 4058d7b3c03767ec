-- Who has some tokens, live, in one database: the devices by APNs or FCM token that is their first one (beside = false),
-- and iOS devices by the FCM token beside it (beside = true). For tokens that move from one database to another; inside
-- one, merge_devices.sql has dealt with them.
SELECT false AS beside, token, registered_at, user_id, device_id
FROM devices WHERE retired_at IS NULL AND token = ANY(%(tokens)s::text[])
UNION ALL
SELECT true, fcm_token, registered_at, user_id, device_id
FROM devices WHERE retired_at IS NULL AND fcm_retired_at IS NULL AND fcm_token = ANY(%(fcm_tokens)s::text[])
