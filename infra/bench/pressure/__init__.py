"""What scans cost the database's other users: short transactions beside no scan, a naive one and ours."""
