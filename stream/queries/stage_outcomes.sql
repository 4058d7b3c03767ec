-- Staging for one batch of outcomes; gone with the transaction.
CREATE TEMP TABLE IF NOT EXISTS staged_outcomes (
  n bigint, local_date date, user_id bigint, kind smallint, path smallint, campaign text, result smallint, reason text,
  provider text, due_at timestamptz, decided_at timestamptz, latency float8
) ON COMMIT DELETE ROWS
