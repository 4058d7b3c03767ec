"""When a worker's process looks for garbage."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Of a worker's objects, those of its modules stay for ever, and nearly all others go when their batch is done.

    Python's collector would look at all of them time and again for the few that hang together in circles: a quarter of
    what a push costs. Now after 100,000 more (some 10 MB), and never at those that are here already.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
