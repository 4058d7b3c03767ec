"""Erasing users who were deleted, everywhere but in Kafka, whose retention does it; and proving it."""

from stream.erasure.erase import Deletion, deletions, erase

__all__ = ["Deletion", "deletions", "erase"]
