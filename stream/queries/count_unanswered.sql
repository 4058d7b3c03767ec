-- Comebacks of one local date that were delivered, as one more without an answer each.
-- Each counts once, however often it is told: dates only go up. One whose user has been active on that date or since
-- counts for nothing. No index holds these columns.
UPDATE users u SET unanswered = least(u.unanswered + 1, 1000), unanswered_on = %(day)s
FROM unnest(%(users)s::bigint[]) AS told(id)
WHERE u.id = told.id
  AND (u.unanswered_on IS NULL OR u.unanswered_on < %(day)s)
  AND (u.last_active_date IS NULL OR u.last_active_date < %(day)s)
