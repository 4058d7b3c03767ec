"""What the scan makes of columns is what the wire's types encode of objects, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from batch.columns import ints, offsets, quotable, raw, texts
from batch.messages import Messages
from batch.moments import Moments
from batch.plan import Slot
from batch.rows import Rows
from shared.identity import spread
from shared.policy.kinds import COMEBACK, Path
from shared.policy.window import QuietHours, expires_at
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, SendBatch, Target, encode

NOW = 1_795_262_400.25
TOPICS = Topics.of(Settings.model_validate({}))
SLOTS = (
    Slot("Asia/Dhaka", date(2026, 11, 21), 7, 1_795_262_400.0, 3600),
    Slot("America/Argentina/Buenos_Aires", date(2026, 11, 21), 30, 1_795_294_800.0, 0),
)
QUIET = QuietHours(22, 8)
HOSTILE = ("", "plain", 'a"b', "back\\slash", "line\nfeed", "\x1f\x7f", "日本 ☕", "é" * 40, '"],["')
TARGETS: tuple[tuple[Target, ...], ...] = (
    (),
    (Target("d", "ios", "t"),),
    (Target("d", "ios", "t", "f"), Target("e", "android", "u")),
)


def column(values: Sequence[str]) -> object:
    encoded = [value.encode() for value in values]
    return quotable(texts(b"".join(encoded), np.array([len(value) for value in encoded], np.int64)))


def inside(targets: tuple[Target, ...]) -> str:
    return encode(targets).decode()[1:-1]


@pytest.mark.parametrize("size", [1, 4, 500])
def test_sends_are_encoded_as_the_wire_encodes_them(size: int) -> None:
    n = 54
    ids = np.arange(1, n + 1) * 170_141_183_460_469_231 // 1_000
    slots = np.arange(n) % 2
    locales = [HOSTILE[k % len(HOSTILE)] for k in range(n)]
    emails = ["a@example.com" if k % 3 else "" for k in range(n)]
    targets = [TARGETS[k % 3] for k in range(n)]
    rows = Rows(
        np.zeros(n, np.int64),
        ids,
        np.arange(n) * 37,
        np.zeros(n, np.int64),
        column(locales),
        column(emails),
        pa.array([inside(one) for one in targets]),
    )
    moments = Moments(SLOTS, QUIET)
    due = moments.due(slots, ids)
    records = list(Messages(SLOTS, TOPICS, size).sends(rows, slots, due, moments.expires(slots, due), NOW))
    sends = []
    for k in range(n):
        slot = SLOTS[k % 2]
        at = slot.due_at + (spread(int(ids[k])) * slot.window >> 12)
        end = expires_at(COMEBACK, at, slot.time_zone, QUIET)
        sends.append(
            Send(
                *(int(ids[k]), "comeback", slot.local_date, at, end, slot.time_zone, locales[k], k * 37),
                *(slot.ladder_day, targets[k], "", emails[k]),
            )
        )
    expected = [encode(SendBatch(Path.batch, NOW, tuple(sends[k : k + size]))) for k in range(0, n, size)]
    assert [record.value for record in records] == expected
    assert {(record.topic, record.key) for record in records} == {(TOPICS.normal, None)}


def test_outcomes_are_encoded_as_the_wire_encodes_them() -> None:
    ids, slots = np.array([5, 7, 2**63 - 1]), np.array([0, 1, 0])
    due = np.array([1_795_262_400, 1_795_294_800, 1_795_262_401])
    results = [(Result.denied, "no_device"), (Result.expired, "expired")]
    found = list(Messages(SLOTS, TOPICS, 2).outcomes(ids, slots, due, results, np.array([0, 1, 0]), NOW))
    outcomes = [
        Outcome(int(ids[k]), "comeback", SLOTS[slots[k]].local_date, *results[k % 2], float(due[k]), NOW)
        for k in range(3)
    ]
    expected = [encode(OutcomeBatch(Path.batch, tuple(part))) for part in (outcomes[:2], outcomes[2:])]
    assert [record.value for record in found] == expected
    assert {record.topic for record in found} == {TOPICS.outcomes}


def test_of_nobody_there_is_no_message() -> None:
    nobody = np.zeros(0, np.int64)
    none = texts(None, nobody)
    rows = Rows(nobody, nobody, nobody, nobody, none, none, none)
    messages = Messages(SLOTS, TOPICS, 500)
    assert list(messages.sends(rows, nobody, nobody, nobody, NOW)) == []
    assert list(messages.outcomes(nobody, nobody, nobody, [(Result.denied, "x")], nobody, NOW)) == []


def test_texts_keep_their_bytes_and_only_what_json_forbids_is_escaped() -> None:
    found = texts("".join(HOSTILE).encode(), np.array([len(text.encode()) for text in HOSTILE]))
    assert found.to_pylist() == list(HOSTILE)
    assert raw(found) == "".join(HOSTILE).encode()
    assert offsets(found[2:4])[0] == len("plain")
    assert quotable(found).to_pylist() == [encode(text).decode()[1:-1] for text in HOSTILE]
    clean = texts(b"abc", np.array([1, 2]))
    assert quotable(clean) is clean


def test_a_database_in_another_encoding_is_named() -> None:
    with pytest.raises(ValueError, match="UTF8"):
        texts("é".encode(), np.array([1]))


def test_numbers_of_a_binary_array() -> None:
    head = bytes(20)
    raw_ints = b"".join((4).to_bytes(4) + n.to_bytes(4, signed=True) for n in (1, -2, 2**31 - 1))
    raw_longs = b"".join((8).to_bytes(4) + n.to_bytes(8) for n in (1, 2**63 - 1))
    assert ints(head + raw_ints).tolist() == [1, -2, 2**31 - 1]
    assert ints(head + raw_longs, 8).tolist() == [1, 2**63 - 1]
    assert ints(None).tolist() == ints(bytes(12)).tolist() == []
