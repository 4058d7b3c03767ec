"""Every row of the table of mail servers' refusals, and what goes by the reply's first digit alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.delivery.errors import ACCEPTED, Action
from stream.delivery.smtp.codes import ROWS, Row, Stage, verdict

RECIPIENT = Stage.recipient


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"5.{row.subject}.{row.detail}")
def test_every_row_is_read_as_it_stands(row: Row) -> None:
    found = verdict(RECIPIENT, 550, f"5.{row.subject}.{row.detail} because")
    assert (found.action, found.reason) == (row.action, f"smtp_550_5_{row.subject}_{row.detail}")


def test_no_code_has_two_rows() -> None:
    assert len({(row.subject, row.detail) for row in ROWS}) == len(ROWS)


def test_only_what_is_said_of_the_mailbox_itself_retires_it() -> None:
    retiring = {(row.subject, row.detail) for row in ROWS if row.action is Action.retire}
    assert retiring == {(1, 1), (1, 2), (1, 3), (1, 6), (1, 10), (2, 1), (7, 17), (7, 18)}


@pytest.mark.parametrize("stage", Stage)
def test_accepted_is_accepted(stage: Stage) -> None:
    assert verdict(stage, 250, "2.0.0 OK") == verdict(stage, 251, "will forward") == ACCEPTED


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("text", ["4.7.0 slow down", "later", "5.1.1 says one thing and means another", ""])
def test_what_is_transient_is_tried_again(stage: Stage, text: str) -> None:
    assert verdict(stage, 451, text).action is Action.retry


@pytest.mark.parametrize("stage", [Stage.connect, Stage.auth, Stage.sender])
def test_what_is_refused_before_the_recipient_is_named_is_for_somebody_to_look_at(stage: Stage) -> None:
    found = verdict(stage, 550, "5.1.1 nobody is retired on this")
    assert (found.action, found.reason) == (Action.stop, f"smtp_{stage}_550_5_1_1")


@pytest.mark.parametrize(
    ("code", "text", "action", "reason"),
    [
        (550, "no such user, or we do not like you", Action.fail, "smtp_550"),
        (554, "", Action.fail, "smtp_554"),
        (552, "5.3.99 nobody has registered this", Action.fail, "smtp_552_5_3_99"),
        (550, "5.7.1 delivery not authorised", Action.stop, "smtp_550_5_7_1"),
        (550, "5.7.509 policy", Action.stop, "smtp_550_5_7_509"),
        (530, "5.5.1 Authentication Required", Action.stop, "smtp_530_5_5_1"),
        (550, "4.1.1 a class that is not the reply's", Action.fail, "smtp_550"),
        (550, "5.1.1.1 no code", Action.fail, "smtp_550"),
        (550, "5.1.1", Action.retire, "smtp_550_5_1_1"),
        (550, "5.1.1\nof several lines", Action.retire, "smtp_550_5_1_1"),
        (0, "gibberish", Action.stop, "smtp_0"),
        (354, "go on", Action.stop, "smtp_354"),
    ],
)
def test_what_no_row_says(code: int, text: str, action: Action, reason: str) -> None:
    found = verdict(RECIPIENT, code, text)
    assert (found.action, found.reason) == (action, reason)


@given(st.sampled_from(Stage), st.integers(0, 999), st.text(max_size=60))
def test_whatever_a_server_says_there_is_a_verdict(stage: Stage, code: int, text: str) -> None:
    found = verdict(stage, code, text)
    assert found.reason.isascii() and len(found.reason) < 60
