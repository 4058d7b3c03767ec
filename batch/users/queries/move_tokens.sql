-- A token belongs to one device of one user: where it is registered anew, it leaves the place it had before.
-- Otherwise one phone would show the reminders of two people.
DELETE FROM devices
 USING staged_devices AS staged
 WHERE devices.token = staged.token
   AND (devices.user_id, devices.device_id) IS DISTINCT FROM (staged.user_id, staged.device_id);

-- So too an FCM token beside an APNs token, but the device stays. Of those in the chunk the last one has it.
UPDATE staged_devices AS staged
   SET fcm_token = NULL
  FROM staged_devices AS later
 WHERE later.fcm_token = staged.fcm_token AND later.place > staged.place;
UPDATE devices
   SET fcm_token = NULL, fcm_retired_at = NULL, fcm_retired_reason = NULL
  FROM staged_devices AS staged
 WHERE devices.fcm_token = staged.fcm_token
   AND (devices.user_id, devices.device_id) IS DISTINCT FROM (staged.user_id, staged.device_id)
