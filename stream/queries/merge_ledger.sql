-- Outcomes into the ledger, each candidate once. The first outcome stays, except that a denial gives way: a later
-- claim of the same send was granted (the state of things changed between two lessons of one day, say).
INSERT INTO ledger AS l (local_date, user_id, kind, path, result, reason, provider, due_at, decided_at, latency)
SELECT DISTINCT ON (local_date, user_id, kind, path)
       local_date, user_id, kind, path, result, reason, provider, due_at, decided_at, latency
FROM staged_outcomes
ORDER BY local_date, user_id, kind, path, (result = 0), n
ON CONFLICT (local_date, user_id, kind, path) DO UPDATE SET
  result = excluded.result, reason = excluded.reason, provider = excluded.provider, due_at = excluded.due_at,
  decided_at = excluded.decided_at, latency = excluded.latency
WHERE l.result = 0 AND excluded.result <> 0
