"""Sends and outcomes on the wire."""

from __future__ import annotations

import json
from datetime import date

import msgspec
import pytest

from shared.identity import send_id
from shared.policy.kinds import KIND_BY_CODE, KINDS, Lane, Path
from shared.wire.sends import (
    MAX_SENDS,
    Outcome,
    OutcomeBatch,
    Result,
    RetiredToken,
    Send,
    SendBatch,
    Target,
    decode_outcomes,
    decode_sends,
    encode,
)

DAY = date(2026, 11, 21)
SEND = Send(7, "practice", DAY, 100.0, 200.5, "Asia/Tokyo", "ja", 3, 0, (Target("d", "ios", "t"),))
OUTCOME = Outcome(7, "practice", DAY, Result.delivered, "apns_200", 100.0, 101.0, 0.25, "apns")
RETIRED = RetiredToken(7, "d", "t", "apns_410_unregistered", 99.0)


def test_a_batch_of_sends_survives_the_wire() -> None:
    batch = SendBatch(Path.batch, 50.0, (SEND, msgspec.structs.replace(SEND, user_id=8, targets=())))
    assert decode_sends(encode(batch)) == batch


def test_a_batch_of_outcomes_survives_the_wire() -> None:
    batch = OutcomeBatch(Path.stream, (OUTCOME,), (RETIRED,))
    assert decode_outcomes(encode(batch)) == batch


def test_an_outcome_need_not_name_a_provider() -> None:
    assert decode_outcomes(b'{"path":1,"outcomes":[[7,"practice","2026-11-21",0,"daily_cap",1.0,2.0]]}').outcomes == (
        Outcome(7, "practice", DAY, Result.denied, "daily_cap", 1.0, 2.0, 0.0, ""),
    )


def test_a_send_of_before_there_were_e_mails_has_no_address() -> None:
    fields = json.loads(encode(SEND))[:11]
    raw = json.dumps({"path": 1, "planned_at": 0.0, "sends": [fields]}).encode()
    assert decode_sends(raw).sends == (SEND,)


def test_the_id_of_a_send_is_that_of_its_identity() -> None:
    assert SEND.send_id == send_id(7, "practice", DAY)


def test_the_id_of_a_send_does_not_depend_on_when_or_where_it_goes() -> None:
    moved = msgspec.structs.replace(SEND, due_at=1.0, expires_at=2.0, locale="en", streak=9, targets=())
    assert moved.send_id == SEND.send_id


def test_a_batch_holds_as_many_sends_as_the_limit() -> None:
    assert len(decode_sends(encode(SendBatch(Path.stream, 0.0, (SEND,) * MAX_SENDS))).sends) == 500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, 0),
        (0, 2**63),
        (1, "email"),
        (2, "2026-02-30"),
        (3, "soon"),
        (9, [["d", "windows", "t"]]),
        (11, "ada"),
        (11, "ada@example.com\n"),
    ],
)
def test_a_send_that_makes_no_sense_is_refused(field: int, value: object) -> None:
    fields = json.loads(encode(SEND))
    fields[field] = value
    raw = json.dumps({"path": 1, "planned_at": 0.0, "sends": [fields]}).encode()
    with pytest.raises(msgspec.ValidationError):
        decode_sends(raw)


def test_a_batch_above_the_limit_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_sends(encode(SendBatch(Path.stream, 0.0, (SEND,) * (MAX_SENDS + 1))))


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"path":4,"planned_at":0,"sends":[]}', b"\xff"])
def test_what_is_no_batch_is_refused(raw: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_sends(raw)


def test_the_numbers_that_are_stored_never_change() -> None:
    assert [(result.name, result.value) for result in Result] == [
        ("denied", 0),
        ("delivered", 1),
        ("expired", 2),
        ("failed", 3),
        ("dropped", 4),
    ]
    assert {path.name: path.value for path in Path} == {"stream": 1, "batch": 2, "blast": 3}
    assert {code: kind.name for code, kind in KIND_BY_CODE.items()} == {
        0: "practice",
        1: "streak_saver",
        2: "abandoned_lesson",
        3: "comeback",
        4: "campaign",
    }


def test_no_two_kinds_share_a_code() -> None:
    assert len(KIND_BY_CODE) == len(KINDS)


def test_the_lane_of_a_kind_is_that_of_its_path() -> None:
    assert {kind.name: kind.lane for kind in KINDS.values()} == {
        "practice": Lane.urgent,
        "streak_saver": Lane.urgent,
        "abandoned_lesson": Lane.urgent,
        "comeback": Lane.normal,
        "campaign": Lane.blast,
    }
