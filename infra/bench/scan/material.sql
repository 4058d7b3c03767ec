-- Users %(first)s to %(last)s: of each hundred twenty are active, twenty-five stand on a rung of the ladder today, the
-- others somewhere in a year. One in ten has no device, one in three an e-mail address.
WITH crowd AS (
  SELECT id, (id * 2654435761 >> 7) & 65535 AS chance
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS id
), people AS (
  INSERT INTO users (id, time_zone, locale, last_active_date, last_event_at, streak, email)
  SELECT id, (%(zones)s::text[])[1 + chance %% cardinality(%(zones)s::text[])],
         ('{en,es,ja,ar}'::text[])[1 + id %% 4],
         %(today)s::date - (CASE
           WHEN chance %% 100 < 20 THEN chance / 100 %% 7
           WHEN chance %% 100 < 45 THEN (%(ladder)s::int[])[1 + chance / 100 %% cardinality(%(ladder)s::int[])]
           ELSE 8 + chance / 100 * 7 %% 390
         END)::int,
         %(today)s, 0, CASE WHEN id %% 3 = 0 THEN 'user' || id || '@example.com' END
  FROM crowd
)
INSERT INTO devices (user_id, device_id, platform, token)
SELECT id, 'd' || id %% 7, CASE WHEN id %% 2 = 0 THEN 'ios' ELSE 'android' END,
       lpad(to_hex(id), CASE WHEN id %% 2 = 0 THEN 64 ELSE 140 END, '0')
FROM crowd
WHERE id %% 10 > 0
