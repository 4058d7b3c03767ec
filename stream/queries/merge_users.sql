-- Merge one pass of activity (at most one row a user) from the staging table into users.
-- The streak counts local dates in a row: the same date again changes nothing, the next one adds, a gap starts over.
-- A practice that comes late, for a date before the last one known, changes nothing.
-- Whatever is new to us is an answer: comebacks are counted from 0 again.
-- A retired e-mail address comes back when it is set after that, or another one is.
WITH known AS (
  UPDATE users u SET
    time_zone = CASE WHEN s.zone_given THEN s.time_zone ELSE u.time_zone END,
    locale = coalesce(s.locale, u.locale),
    opted_out = coalesce(s.opted_out, u.opted_out),
    email = CASE WHEN s.email IS NULL THEN u.email ELSE nullif(s.email, '') END,
    email_opted_out = coalesce(s.email_opted_out, u.email_opted_out),
    email_retired_at = CASE WHEN s.email IS NULL OR (s.email = u.email AND to_timestamp(s.email_at / 1e6) <= u.email_retired_at) THEN u.email_retired_at END,
    email_retired_reason = CASE WHEN s.email IS NULL OR (s.email = u.email AND to_timestamp(s.email_at / 1e6) <= u.email_retired_at) THEN u.email_retired_reason END,
    last_event_at = greatest(u.last_event_at, to_timestamp(s.event_at / 1e6)),
    last_active_date = CASE WHEN u.last_event_at >= to_timestamp(s.event_at / 1e6) THEN u.last_active_date ELSE s.active_date END,
    unanswered = CASE WHEN u.last_event_at >= to_timestamp(s.event_at / 1e6) THEN u.unanswered ELSE 0 END,
    streak = CASE
      WHEN s.practice_date IS NULL OR s.practice_date <= u.last_practice_date THEN u.streak
      WHEN s.practice_date = u.last_practice_date + 1 THEN u.streak + 1
      ELSE 1 END,
    last_practice_at = greatest(u.last_practice_at, to_timestamp(s.practice_at / 1e6)),
    last_practice_date = greatest(u.last_practice_date, s.practice_date)
  FROM staged_users s WHERE s.pass = %(pass)s AND s.id = u.id
  RETURNING u.id
)
INSERT INTO users
  (id, time_zone, locale, last_event_at, last_active_date, last_practice_at, last_practice_date, streak, opted_out, email,
   email_opted_out)
SELECT id, time_zone, coalesce(locale, 'en'), to_timestamp(event_at / 1e6), active_date,
       to_timestamp(practice_at / 1e6), practice_date,
       CASE WHEN practice_date IS NULL THEN 0 ELSE 1 END, coalesce(opted_out, 0), nullif(email, ''),
       coalesce(email_opted_out, false)
FROM staged_users s WHERE pass = %(pass)s AND NOT EXISTS (SELECT FROM known WHERE known.id = s.id)
ON CONFLICT (id) DO NOTHING
