"""A run of records: what a topic that asks for it gets instead of single messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka.structs import ConsumerRecord
from faust.types import AppT, Message


@dataclass(frozen=True, slots=True)
class Run:
    """Records of one partition in their order, as one poll brought them; never empty.

    Offsets between two of them may be missing: compacted, or of a transaction that was aborted.
    """

    records: Sequence[ConsumerRecord[bytes, bytes]]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def first(self) -> int:
        """The first record's offset."""
        return int(self.records[0].offset)

    @property
    def last(self) -> int:
        """The last record's offset, which is also that of the message that carries the run."""
        return int(self.records[-1].offset)


class RunSchema(faust.Schema[Any, Any]):
    """Asks the transport for runs: `event.value` is a `Run`, `event.key` None. What it holds is not decoded."""

    def compile(self, app: AppT, **_: Any) -> Any:
        async def decode(message: Message, **_: Any) -> Any:
            return app.create_event(None, message.value, message.headers, message)

        return decode
