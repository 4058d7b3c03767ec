-- Staging for one batch of activity; gone with the transaction. Instants are unix microseconds.
CREATE TEMP TABLE IF NOT EXISTS staged_users (
  id bigint, pass int, time_zone text, zone_given boolean, locale text, event_at bigint, active_date date,
  practice_at bigint, practice_date date, opted_out smallint, email text, email_at bigint,
  email_opted_out boolean
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_devices (
  user_id bigint, device_id text, platform text, token text, app_version text, at timestamptz, fcm_token text
) ON COMMIT DELETE ROWS
