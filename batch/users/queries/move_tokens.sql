-- A token belongs to one device of one user: where it is registered anew, it leaves the place it had before.
-- Otherwise one phone would show the reminders of two people.
DELETE FROM devices
 USING staged_devices AS staged
 WHERE devices.token = staged.token
   AND (devices.user_id, devices.device_id) IS DISTINCT FROM (staged.user_id, staged.device_id)
