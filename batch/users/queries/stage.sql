-- Where the rows of one chunk lie between COPY and merge: seen by this connection only, never written to the log, empty
-- again after each transaction. `place` is the row's place in the chunk.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_users (
    id bigint, time_zone text, locale text, country text, last_event_at timestamptz, last_active_date date,
    last_practice_at timestamptz, last_practice_date date, streak integer, opted_out smallint, created_at timestamptz,
    email text, email_opted_out boolean
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS staged_devices (
    place integer, user_id bigint, device_id text, platform text, token text, app_version text,
    registered_at timestamptz, fcm_token text
) ON COMMIT DELETE ROWS
