"""What a Faust app's own bookkeeping says of it, read from another thread: plain reads of what only the app writes.

Some of it is private to Faust 0.15.3 and aiokafka 0.14, which are pinned; all of it stands here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stream.liveness import Partition

if TYPE_CHECKING:
    from collections.abc import Mapping

    import faust

    from shared.lag import Position


def assigned(app: faust.App) -> frozenset[Partition] | None:
    """Its partitions; None: it has no say of its group yet, or the partitions are shared out anew."""
    found: Any = app._assignment
    if found is None or app.rebalancing or not app.flow_control.is_active():
        return None
    return frozenset((tp.topic, tp.partition) for tp in found)


def idle(app: faust.App, positions: Mapping[Partition, Position]) -> frozenset[Partition]:
    """Partitions that were read to the end, with all that was in them handled."""
    return frozenset(_idle(app, positions))


def _idle(app: faust.App, positions: Mapping[Partition, Position]) -> Iterator[Partition]:
    from aiokafka import TopicPartition
    from faust.types import TP

    consumer: Any = app._consumer
    client: Any = _client(app)
    if client is None:
        return
    for partition, position in positions.items():
        if not position.behind:
            continue
        # While the group shares out its partitions, aiokafka has no state of them.
        with contextlib.suppress(AttributeError, KeyError, AssertionError):
            state = client._subscription.subscription.assignment.state_value(TopicPartition(*partition))
            read = consumer._read_offset.get(TP(*partition))
            handled = read is None or read < position.committed
            if handled and state.has_valid_position and state.position >= position.end:
                yield partition


def _client(app: faust.App) -> Any:
    """The aiokafka consumer, which lives in a thread of Faust's."""
    return getattr(getattr(app._consumer, "_thread", None), "_consumer", None)


def leave_group(app: faust.App, seconds: float) -> None:
    """Tell the brokers that this member is gone, whatever its main loop does; without it they wait for the session's
    timeout before others get its partitions."""
    import asyncio

    client = _client(app)
    loop = getattr(getattr(app._consumer, "_thread", None), "thread_loop", None)
    if client is None or loop is None or not loop.is_running():
        return
    # Whatever it is that fails, the brokers find out by themselves a little later.
    with contextlib.suppress(Exception):
        leaving = asyncio.run_coroutine_threadsafe(client._coordinator._maybe_leave_group(), loop)
        leaving.result(seconds)
