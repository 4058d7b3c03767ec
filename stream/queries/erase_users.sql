-- Users and their devices go; answers how many devices each had.
WITH mine AS (
  SELECT u.id, (SELECT count(*) FROM devices d WHERE d.user_id = u.id) AS devices
  FROM users u WHERE u.id = ANY(%(users)s)
), gone AS (
  DELETE FROM users WHERE id = ANY(%(users)s)
)
SELECT id, devices FROM mine
