"""A page's Kafka messages, made of columns: what `shared.wire.sends` would encode, byte for byte, without an object for
any user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch.columns import Ints, Texts, offsets
from batch.plan import Slot
from batch.rows import Rows
from shared.policy.kinds import COMEBACK, Path
from shared.producer import Record
from shared.topics import Topics
from shared.wire.sends import OutcomeBatch, Result, SendBatch, encode


class Messages:
    """Writes those of one plan."""

    def __init__(self, slots: Sequence[Slot], topics: Topics, send_batch: int) -> None:
        self._topics = topics
        self._send_batch = send_batch
        # What is the same for all users of a slot.
        self._identity = pa.array(
            [f',"{COMEBACK.name}","{slot.local_date.isoformat()}",' for slot in slots], pa.string()
        )
        self._zone = pa.array([f'.0,"{slot.time_zone}","' for slot in slots], pa.string())
        self._silent = pa.array([f",{slot.ladder_day},[" for slot in slots], pa.string())

    def sends(self, rows: Rows, slots: Ints, due: Ints, expires: Ints, now: float) -> Iterator[Record]:
        """Messages of `SendBatch`."""
        which = pa.array(slots)
        every = pc.binary_join_element_wise(
            "[",
            _text(rows.user_ids),
            self._identity.take(which),
            _text(due),
            ".0,",
            _text(expires),
            self._zone.take(which),
            rows.locales,
            '",',
            _text(rows.streaks),
            self._silent.take(which),
            rows.targets,
            '],"","',
            rows.emails,
            '"],',
            "",
        )
        whole = encode(SendBatch(Path.batch, now, ()))
        return self._cut(self._topics.lane(COMEBACK.lane), whole, b'"sends":[', every)

    def outcomes(
        self, user_ids: Ints, slots: Ints, due: Ints, results: Sequence[tuple[Result, str]], of: Ints, now: float
    ) -> Iterator[Record]:
        """Messages of `OutcomeBatch`; `of`: the number of each user's result."""
        endings = pa.array([f'{int(result)},"{reason}",' for result, reason in results], pa.string())
        every = pc.binary_join_element_wise(
            "[",
            _text(user_ids),
            self._identity.take(pa.array(slots)),
            endings.take(pa.array(of)),
            _text(due),
            # When it was decided, the provider's latency and name, the campaign.
            f'.0,{encode(now).decode()},0.0,"",""],',
            "",
        )
        whole = encode(OutcomeBatch(Path.batch, ()))
        return self._cut(self._topics.outcomes, whole, b'"outcomes":[', every)

    def _cut(self, topic: str, whole: bytes, opening: bytes, every: Texts) -> Iterator[Record]:
        """Some users a message, put where a message without any has room for them. Each text ends with a comma."""
        if not len(every):
            return
        head, opened, tail = whole.partition(opening)
        ends = offsets(every).tolist()[:: self._send_batch]
        last = int(offsets(every)[-1])
        if ends[-1] != last:
            ends.append(last)
        data = memoryview(every.buffers()[2])
        for begin, end in pairwise(ends):
            # Keyless: batches spread over the lane's partitions, and no order is owed between them.
            yield Record(topic, None, b"".join((head, opened, data[begin : end - 1], tail)))


def _text(numbers: Ints) -> Any:
    return pa.array(numbers).cast(pa.string())
