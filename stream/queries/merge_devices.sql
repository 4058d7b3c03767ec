-- Register devices of users that exist. A token belongs to the device that registered it last: others with the same
-- token are retired, because a push to them would show on somebody else's screen.
WITH moved AS (
  UPDATE devices d SET retired_at = s.at, retired_reason = 'token_moved'
  FROM staged_devices s
  WHERE d.token = s.token AND (d.user_id, d.device_id) <> (s.user_id, s.device_id)
    AND d.retired_at IS NULL AND d.registered_at <= s.at
)
INSERT INTO devices AS d (user_id, device_id, platform, token, app_version, registered_at)
SELECT s.user_id, s.device_id, s.platform, s.token, s.app_version, s.at
FROM staged_devices s JOIN users u ON u.id = s.user_id
ON CONFLICT (user_id, device_id) DO UPDATE SET
  platform = excluded.platform, token = excluded.token,
  app_version = coalesce(excluded.app_version, d.app_version),
  registered_at = excluded.registered_at, retired_at = NULL, retired_reason = NULL
WHERE d.registered_at <= excluded.registered_at
