"""Keeping the gate: rebuilding one that lost its data, by hand or by the workers themselves, and looking at it."""
