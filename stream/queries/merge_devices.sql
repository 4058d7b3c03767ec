-- Register devices of users that exist. A registration that was known before and retired since stays retired: it
-- comes again because a worker crashed, not because the device lives.
INSERT INTO devices AS d (user_id, device_id, platform, token, app_version, registered_at)
SELECT s.user_id, s.device_id, s.platform, s.token, s.app_version, s.at
FROM staged_devices s JOIN users u ON u.id = s.user_id
ON CONFLICT (user_id, device_id) DO UPDATE SET
  platform = excluded.platform, token = excluded.token,
  app_version = coalesce(excluded.app_version, d.app_version),
  registered_at = excluded.registered_at, retired_at = NULL, retired_reason = NULL
WHERE d.registered_at < excluded.registered_at
   OR d.registered_at = excluded.registered_at AND d.retired_at IS NULL;

-- A token belongs to the device that registered it last, in this batch or before it: others with the same token are
-- retired, because a push to them would show on somebody else's screen.
WITH holders AS (
  SELECT DISTINCT ON (token) token, user_id, device_id, registered_at
  FROM devices WHERE retired_at IS NULL AND token IN (SELECT token FROM staged_devices)
  ORDER BY token, registered_at DESC, user_id DESC, device_id DESC
)
UPDATE devices d SET retired_at = h.registered_at, retired_reason = 'token_moved'
FROM holders h
WHERE d.token = h.token AND d.retired_at IS NULL AND (d.user_id, d.device_id) <> (h.user_id, h.device_id)
