-- Bring the staged users into `users`.
-- A NULL says that the file does not know: what is stored stays, and a new user gets the table's default.
-- In id order, so that two who write the same users wait for one another instead of deadlocking; rows that would not
-- change are left alone, so that importing a file again is cheap and leaves no dead rows behind.
INSERT INTO users AS kept
    (id, time_zone, locale, country, last_event_at, last_active_date, last_practice_at, last_practice_date,
     streak, opted_out, created_at, email, email_opted_out)
SELECT staged.id,
       staged.time_zone,
       coalesce(staged.locale, old.locale, 'en'),
       coalesce(staged.country, old.country),
       coalesce(staged.last_event_at, old.last_event_at),
       coalesce(staged.last_active_date, old.last_active_date),
       coalesce(staged.last_practice_at, old.last_practice_at),
       coalesce(staged.last_practice_date, old.last_practice_date),
       coalesce(staged.streak, old.streak, 0),
       coalesce(staged.opted_out, old.opted_out, 0),
       coalesce(staged.created_at, old.created_at, now()),
       coalesce(staged.email, old.email),
       coalesce(staged.email_opted_out, old.email_opted_out, false)
  FROM staged_users AS staged
  LEFT JOIN users AS old USING (id)
 ORDER BY staged.id
ON CONFLICT (id) DO UPDATE
   SET time_zone = excluded.time_zone,
       locale = excluded.locale,
       country = excluded.country,
       last_event_at = excluded.last_event_at,
       last_active_date = excluded.last_active_date,
       last_practice_at = excluded.last_practice_at,
       last_practice_date = excluded.last_practice_date,
       streak = excluded.streak,
       opted_out = excluded.opted_out,
       created_at = excluded.created_at,
       email = excluded.email,
       email_opted_out = excluded.email_opted_out,
       -- Who was active since is reminded again.
       unanswered = CASE WHEN excluded.last_active_date > kept.last_active_date THEN 0 ELSE kept.unanswered END,
       -- No mailbox belonged to the address that was known; a new one is tried.
       email_retired_at = CASE WHEN kept.email = excluded.email THEN kept.email_retired_at END,
       email_retired_reason = CASE WHEN kept.email = excluded.email THEN kept.email_retired_reason END
 WHERE (kept.time_zone, kept.locale, kept.country, kept.last_event_at, kept.last_active_date, kept.last_practice_at,
        kept.last_practice_date, kept.streak, kept.opted_out, kept.created_at, kept.email, kept.email_opted_out)
    IS DISTINCT FROM
       (excluded.time_zone, excluded.locale, excluded.country, excluded.last_event_at, excluded.last_active_date,
        excluded.last_practice_at, excluded.last_practice_date, excluded.streak, excluded.opted_out,
        excluded.created_at, excluded.email, excluded.email_opted_out)
