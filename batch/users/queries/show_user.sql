-- One user's row.
SELECT id, shard, time_zone, locale, country, last_event_at, last_active_date, last_practice_at, last_practice_date,
       streak, opted_out, created_at, email, email_opted_out, email_retired_at, email_retired_reason, unanswered
  FROM users
 WHERE id = %(id)s
