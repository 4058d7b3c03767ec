-- One keyset page of the silent users of some cells, cell by cell, and in a cell by their place in the hour, then by id.
-- A cell is a shard and a slot, and what is left of it: after (low, after_id), before high. Each is one descent of
-- ix_users_silent, in the order of the arrays, and none is begun once the page is full. Answers one row: each column as
-- an array; of texts their bytes side by side and an array of their lengths, so that a reader has nothing to do for each
-- of them. The e-mail address is empty where there is none in use.
SELECT array_agg(cell), array_agg(id), array_agg(streak), array_agg(opted_out::int),
       string_agg(locale, ''), array_agg(octet_length(locale)), string_agg(email, ''), array_agg(octet_length(email))
FROM (
  SELECT cell.n AS cell, u.id, u.streak, u.opted_out, u.locale,
         CASE WHEN %(emails)s AND NOT u.email_opted_out AND u.email_retired_at IS NULL THEN coalesce(u.email, '')
              ELSE '' END AS email
  FROM unnest(%(shards)s::int[], %(zones)s::text[], %(dates)s::date[], %(lows)s::int[], %(after_ids)s::bigint[],
              %(highs)s::int[]) WITH ORDINALITY AS cell(shard, time_zone, last_active_date, low, after_id, high, n)
  CROSS JOIN LATERAL (
    SELECT u.id, u.streak, u.opted_out, u.locale, u.email, u.email_opted_out, u.email_retired_at
    FROM users u
    WHERE u.shard = cell.shard AND u.time_zone = cell.time_zone AND u.last_active_date = cell.last_active_date
      AND (surnia_spread(u.id), u.id) > (cell.low, cell.after_id) AND surnia_spread(u.id) < cell.high
    ORDER BY surnia_spread(u.id), u.id
    LIMIT %(limit)s
  ) AS u
  ORDER BY cell.n
  LIMIT %(limit)s
) AS page
