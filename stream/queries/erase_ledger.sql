-- A date's rows of erased users, due until an instant of each, leave the ledger for the staging table
-- (stage_outcomes.sql), under their pseudonyms, and come back by merge_ledger.sql: the same row may be there already,
-- from an outcome that came twice.
WITH gone AS (
  DELETE FROM ledger l
  USING unnest(%(users)s::bigint[], %(pseudonyms)s::bigint[], %(until)s::timestamptz[]) AS e (user_id, pseudonym, until)
  -- By both: the array leads into the primary key, however large the date is.
  WHERE l.local_date = %(day)s AND l.user_id = ANY(%(users)s::bigint[]) AND l.user_id = e.user_id AND l.due_at <= e.until
  RETURNING l.*, e.pseudonym
)
INSERT INTO staged_outcomes
  (n, local_date, user_id, kind, path, campaign, result, reason, provider, due_at, decided_at, latency)
SELECT 0, local_date, pseudonym, kind, path, campaign, result, reason, provider, due_at, decided_at, latency FROM gone
RETURNING user_id, campaign
