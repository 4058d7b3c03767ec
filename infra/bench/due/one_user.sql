-- One user and the devices, as somebody would look them up who takes users one by one.
SELECT u.id, u.time_zone, u.locale, u.streak, u.opted_out, u.last_practice_date,
       (SELECT json_agg(json_build_object('id', d.device_id, 'platform', d.platform, 'token', d.token))
        FROM devices d WHERE d.user_id = u.id AND d.retired_at IS NULL) AS devices
FROM users u WHERE u.id = %s
