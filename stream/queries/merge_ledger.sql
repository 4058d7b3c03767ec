-- Outcomes into the ledger, each candidate once. The higher rank wins: delivered, failed, expired, dropped, denied, as
-- numbers 1, 3, 2, 4, 0; so whatever is redelivered, and in whatever order it comes, the same results stay. Of two
-- with the same rank the first stays.
INSERT INTO ledger AS l
  (local_date, user_id, kind, path, campaign, result, reason, provider, due_at, decided_at, latency)
SELECT DISTINCT ON (local_date, user_id, kind, path, campaign)
       local_date, user_id, kind, path, campaign, result, reason, provider, due_at, decided_at, latency
FROM staged_outcomes
-- Beginning with the key, in its order: workers that write the same rows lock them in the same order.
ORDER BY local_date, user_id, kind, path, campaign, array_position('{1,3,2,4,0}'::smallint[], result), n
ON CONFLICT (local_date, user_id, kind, path, campaign) DO UPDATE SET
  result = excluded.result, reason = excluded.reason, provider = excluded.provider, due_at = excluded.due_at,
  decided_at = excluded.decided_at, latency = excluded.latency
WHERE array_position('{1,3,2,4,0}'::smallint[], excluded.result) < array_position('{1,3,2,4,0}'::smallint[], l.result)
