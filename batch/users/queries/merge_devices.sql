-- Bring the staged devices into `devices`. A NULL says that the file does not know: what is stored stays.
-- A retired token stays retired unless the file brings another token, or a registration after the retirement; so too an
-- FCM token beside an APNs token, which only iOS devices have.
INSERT INTO devices AS kept (user_id, device_id, platform, token, app_version, registered_at, fcm_token)
SELECT staged.user_id,
       staged.device_id,
       staged.platform,
       staged.token,
       coalesce(staged.app_version, old.app_version),
       coalesce(staged.registered_at, old.registered_at, now()),
       staged.fcm_token
  FROM staged_devices AS staged
  LEFT JOIN devices AS old USING (user_id, device_id)
 ORDER BY staged.user_id, staged.device_id
ON CONFLICT (user_id, device_id) DO UPDATE
   SET platform = excluded.platform,
       token = excluded.token,
       app_version = excluded.app_version,
       registered_at = excluded.registered_at,
       retired_at = CASE WHEN kept.token = excluded.token AND kept.retired_at >= excluded.registered_at
                         THEN kept.retired_at END,
       retired_reason = CASE WHEN kept.token = excluded.token AND kept.retired_at >= excluded.registered_at
                             THEN kept.retired_reason END,
       fcm_token = CASE WHEN excluded.platform = 'ios' THEN coalesce(excluded.fcm_token, kept.fcm_token) END,
       fcm_retired_at = CASE WHEN excluded.platform = 'ios' AND (excluded.fcm_token IS NULL
                                  OR kept.fcm_token = excluded.fcm_token AND kept.fcm_retired_at >= excluded.registered_at)
                             THEN kept.fcm_retired_at END,
       fcm_retired_reason = CASE WHEN excluded.platform = 'ios' AND (excluded.fcm_token IS NULL
                                      OR kept.fcm_token = excluded.fcm_token AND kept.fcm_retired_at >= excluded.registered_at)
                                 THEN kept.fcm_retired_reason END
 WHERE (kept.platform, kept.token, kept.app_version, kept.registered_at, kept.fcm_token)
    IS DISTINCT FROM
       (excluded.platform, excluded.token, excluded.app_version, excluded.registered_at,
        coalesce(excluded.fcm_token, kept.fcm_token))
