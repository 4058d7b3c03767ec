"""Raw messages into what they say; what says nothing goes to the dead letters, and the partition goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import msgspec

from shared.producer import Record
from shared.wire.dead_letters import DeadLetter, encode_dead_letter
from shared.wire.events import BadEventError
from stream.runtime import Runtime

T = TypeVar("T")


class Raw(Protocol):
    """A message as it came: Faust's, or a record of a run."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Stamped(Raw, Protocol):
    """A record of a run."""

    @property
    def timestamp(self) -> int:
        """When Kafka, or its producer, had it; milliseconds."""


async def readable(runtime: Runtime, messages: Iterable[Raw], decode: Callable[[bytes], T]) -> list[T]:
    """The messages that decode, in order; returns when the others' dead letters are written, each with its origin."""
    good: list[T] = []
    dead: list[Record] = []
    reasons: list[str] = []
    topic = ""
    for message in messages:
        try:
            good.append(decode(message.value or b""))
        except BadEventError as error:
            dead.append(_dead_letter(runtime, message, error.reason, str(error)))
            reasons.append(error.reason)
            topic = message.topic
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            dead.append(_dead_letter(runtime, message, "invalid", str(error)))
            reasons.append("invalid")
            topic = message.topic
    if dead:
        await runtime.patience.until_done("writing dead letters", lambda: runtime.producer.write(dead))
        # All of a call are an agent's, and an agent has one topic.
        runtime.meter.dead(topic, reasons)
    return good


def _dead_letter(runtime: Runtime, message: Raw, reason: str, detail: str) -> Record:
    letter = DeadLetter.of(
        reason=reason,
        detail=detail,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        at=runtime.clock.now(),
        key=message.key or b"",
        value=message.value or b"",
    )
    # The letter's key, which is cut: a hostile one may be as large as a message.
    return Record(runtime.topics.dead_letters, letter.key or None, encode_dead_letter(letter))
