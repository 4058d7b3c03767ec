-- One token of one device out of use: the device with it, or an iOS device's FCM token alone.
-- Registered again after the provider's timestamp: the token lives (APNs, 410 Unregistered).
UPDATE devices SET
  retired_at = CASE WHEN token = %(token)s THEN %(at)s ELSE retired_at END,
  retired_reason = CASE WHEN token = %(token)s THEN %(reason)s ELSE retired_reason END,
  fcm_retired_at = CASE WHEN token = %(token)s THEN fcm_retired_at ELSE %(at)s END,
  fcm_retired_reason = CASE WHEN token = %(token)s THEN fcm_retired_reason ELSE %(reason)s END
WHERE user_id = %(user_id)s AND device_id = %(device_id)s AND registered_at <= %(at)s
  AND CASE WHEN token = %(token)s THEN retired_at IS NULL ELSE fcm_token = %(token)s AND fcm_retired_at IS NULL END
