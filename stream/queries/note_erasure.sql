-- The proof of an erasure, or what more was found when it was handled again: after a crash it goes on, and adds up.
INSERT INTO erasures AS e
  (erasure_id, topic, kafka_partition, kafka_offset, asked_at, begun_at, done_at, users, devices, gate_fields,
   due_entries, outbox_pages, ledger_rows, planned_entries)
VALUES
  (%(erasure_id)s, %(topic)s, %(partition)s, %(offset)s, %(asked_at)s, %(now)s, %(done_at)s, %(users)s, %(devices)s,
   %(gate_fields)s, %(due_entries)s, %(outbox_pages)s, %(ledger_rows)s, %(planned_entries)s)
ON CONFLICT (topic, kafka_partition, kafka_offset, asked_at) DO UPDATE SET
  done_at = coalesce(e.done_at, excluded.done_at),
  users = e.users + excluded.users, devices = e.devices + excluded.devices,
  gate_fields = e.gate_fields + excluded.gate_fields, due_entries = e.due_entries + excluded.due_entries,
  outbox_pages = e.outbox_pages + excluded.outbox_pages, ledger_rows = e.ledger_rows + excluded.ledger_rows,
  planned_entries = e.planned_entries + excluded.planned_entries
