-- A date's rows of erased users leave the ledger for the staging table (stage_outcomes.sql), under their pseudonyms, and
-- come back by merge_ledger.sql: the same row may be there already, from an outcome that came twice.
-- Who came back under the same id keeps what became due since.
WITH erasing AS (
  SELECT * FROM unnest(%(users)s::bigint[], %(pseudonyms)s::bigint[], %(until)s::timestamptz[])
    AS e (user_id, pseudonym, until)
), gone AS (
  DELETE FROM ledger l
  WHERE l.local_date = %(day)s AND l.user_id = ANY(%(users)s)
    AND (NOT EXISTS (SELECT FROM users u WHERE u.id = l.user_id)
      OR l.due_at <= (SELECT e.until FROM erasing e WHERE e.user_id = l.user_id))
  RETURNING *
)
INSERT INTO staged_outcomes
  (n, local_date, user_id, kind, path, campaign, result, reason, provider, due_at, decided_at, latency)
SELECT 0, g.local_date, e.pseudonym, g.kind, g.path, g.campaign, g.result, g.reason, g.provider, g.due_at, g.decided_at,
       g.latency
FROM gone g JOIN erasing e USING (user_id)
RETURNING user_id, campaign
