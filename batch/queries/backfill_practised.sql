-- Users of a shard whose last practice may have a reminder in a backfill's interval. Who practised then was active on that
-- date or later: one range of ix_users_silent a zone, and only those who practised are looked at in the table.
SELECT u.id, u.time_zone, u.last_practice_at, u.last_practice_date
FROM unnest(%(zones)s::text[]) AS place(time_zone)
JOIN users u ON u.shard = %(shard)s AND u.time_zone = place.time_zone AND u.last_active_date >= %(active_since)s
WHERE u.last_practice_at >= %(since)s AND u.last_practice_at < %(until)s
