-- Candidates of one local date that were held out, or came as far as the gate: some at a time, in the order of the
-- ledger's key. Who was turned down by a planner for another reason was no candidate of the experiment; what the other
-- path had is there once already. Erased users stand under negative numbers.
SELECT user_id, kind, path, result = 0 AND reason = 'holdout' AS held_out
FROM ledger
WHERE local_date = %(day)s AND (user_id, kind, path) > (%(user)s, %(kind)s, %(path)s)
  AND campaign = '' AND kind = ANY(%(kinds)s)
  AND (result <> 0 OR reason IN ('holdout', 'practised', 'daily_cap', 'weekly_cap'))
ORDER BY user_id, kind, path
LIMIT %(limit)s
