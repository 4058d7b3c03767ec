-- One of the app's own transactions, as pgbench's TPC-B is: a user read and written by primary key.
\set n random(1, :users)
BEGIN;
SELECT time_zone, streak, last_practice_at FROM users WHERE id = :n;
UPDATE users SET last_event_at = now(), streak = streak + 1 WHERE id = :n;
COMMIT;
