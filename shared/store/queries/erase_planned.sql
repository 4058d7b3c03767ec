-- Pseudonyms into a date's planned pages, or into one of them; answers a row for each: those that it has now, and the
-- campaign.
-- Pages are read one by one: an index over their users would double what a page costs its planner, and be seven times
-- as large as the pages. A few users are looked for by &&, many by a hash table.
UPDATE planned p SET users = (
  SELECT array_agg(coalesce(e.pseudonym, u.id) ORDER BY u.n)
  FROM unnest(p.users) WITH ORDINALITY AS u (id, n)
  LEFT JOIN unnest(%(users)s::bigint[], %(pseudonyms)s::bigint[]) AS e (user_id, pseudonym) ON e.user_id = u.id
)
WHERE p.local_date = %(day)s AND (%(page)s::bigint IS NULL OR p.page_id = %(page)s)
  AND CASE WHEN cardinality(%(users)s::bigint[]) < 64 THEN p.users && %(users)s::bigint[]
      ELSE EXISTS (SELECT FROM unnest(p.users) AS u (id) WHERE u.id = ANY(%(users)s::bigint[])) END
RETURNING ARRAY(SELECT u.id FROM unnest(p.users) AS u (id) WHERE u.id = ANY(%(pseudonyms)s::bigint[])), p.campaign
