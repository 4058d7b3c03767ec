"""The due index and what a page of it comes to: shared by the workers that fire it and by backfills."""
