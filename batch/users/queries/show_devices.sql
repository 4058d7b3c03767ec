-- One user's devices, the newest first.
SELECT device_id, platform, token, app_version, registered_at, retired_at, retired_reason,
       fcm_token, fcm_retired_at, fcm_retired_reason
  FROM devices
 WHERE user_id = %(id)s
 ORDER BY registered_at DESC, device_id
