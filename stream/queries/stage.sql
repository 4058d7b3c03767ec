-- Staging for one batch of activity; gone with the transaction.
CREATE TEMP TABLE IF NOT EXISTS staged_users (
  id bigint, pass int, time_zone text, zone_given boolean, locale text, event_at timestamptz, active_date date,
  practice_at timestamptz, practice_date date, opted_out smallint, email text, email_at timestamptz,
  email_opted_out boolean, PRIMARY KEY (id, pass)
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_devices (
  user_id bigint, device_id text, platform text, token text, app_version text, at timestamptz, fcm_token text
) ON COMMIT DELETE ROWS
