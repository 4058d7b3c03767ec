-- Register devices of users that exist. A registration that was known before and retired since stays retired: it
-- comes again because a worker crashed, not because the device lives.
-- An FCM token that is left out stays as it was, one that is empty is none any more. A retired one comes back when it is registered after that, or another
-- one is. Only iOS devices have one.
INSERT INTO devices AS d (user_id, device_id, platform, token, app_version, registered_at, fcm_token)
SELECT s.user_id, s.device_id, s.platform, s.token, s.app_version, s.at, s.fcm_token
FROM staged_devices s JOIN users u ON u.id = s.user_id
ON CONFLICT (user_id, device_id) DO UPDATE SET
  platform = excluded.platform, token = excluded.token,
  app_version = coalesce(excluded.app_version, d.app_version),
  registered_at = excluded.registered_at, retired_at = NULL, retired_reason = NULL,
  fcm_token = CASE WHEN excluded.platform = 'ios' THEN nullif(coalesce(excluded.fcm_token, d.fcm_token), '') END,
  fcm_retired_at = CASE WHEN excluded.platform = 'ios' AND (excluded.fcm_token IS NULL
      OR excluded.fcm_token = d.fcm_token AND excluded.registered_at <= d.fcm_retired_at) THEN d.fcm_retired_at END,
  fcm_retired_reason = CASE WHEN excluded.platform = 'ios' AND (excluded.fcm_token IS NULL
      OR excluded.fcm_token = d.fcm_token AND excluded.registered_at <= d.fcm_retired_at) THEN d.fcm_retired_reason END
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
WHERE d.token = h.token AND d.retired_at IS NULL AND (d.user_id, d.device_id) <> (h.user_id, h.device_id);

-- So too an FCM token of an iOS device. Who loses it stays, with the APNs token alone. Also who is retired loses it:
-- the device may register again without naming one.
WITH holders AS (
  SELECT DISTINCT ON (fcm_token) fcm_token, user_id, device_id, registered_at
  FROM devices
  WHERE retired_at IS NULL AND fcm_retired_at IS NULL
    AND fcm_token IN (SELECT fcm_token FROM staged_devices WHERE fcm_token <> '')
  ORDER BY fcm_token, registered_at DESC, user_id DESC, device_id DESC
)
UPDATE devices d SET fcm_retired_at = h.registered_at, fcm_retired_reason = 'token_moved'
FROM holders h
WHERE d.fcm_token = h.fcm_token AND d.fcm_retired_at IS NULL AND (d.user_id, d.device_id) <> (h.user_id, h.device_id)
