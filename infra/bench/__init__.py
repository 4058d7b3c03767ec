"""Benches: our path, what a user would write instead, and the physical limit, side by side in one run."""
