"""Requests put together from pieces are the bytes that the libraries' encoders make, whatever the texts are."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.identity import send_id, send_id_text
from shared.policy.kinds import KINDS
from shared.settings import Settings
from shared.templates import Text
from shared.wire.sends import Send
from stream.delivery import apns, fcm
from stream.delivery.provider import Push
from stream.delivery.spliced import Spliced
from tests.unit.test_delivery_providers import settings

__all__ = ["settings"]  # a fixture

NOW = 1_760_000_000.0
DAY = date(2026, 11, 21)
MARKS = (apns._SEND_ID, apns._EXPIRES_AT, fcm._TTL, fcm._TOKEN)
# Texts like the marks, and what JSON or bytes' formatting could stumble over.
TEXTS = st.lists(
    st.sampled_from([*MARKS, *map(json.dumps, MARKS), '"', "\\", "%", "%b", "%%", "{", "é", "\u2028", "\x00", "😀"])
    | st.text(st.characters(codec="utf-8"), max_size=5),
    max_size=6,
).map("".join)


@pytest.fixture(scope="module")
def ios(settings: Settings) -> apns.Apns:
    return apns.Apns(settings, settings.clock())


@pytest.fixture(scope="module")
def android(settings: Settings) -> fcm.Fcm:
    return fcm.Fcm(settings)


pushes = st.builds(
    lambda user_id, kind, title, body, token, left, ios: Push(
        Send(user_id, kind, DAY, NOW, NOW + left, "UTC", "en", 0, 0, ()),
        send_id_text(user_id, kind, DAY),
        Text(title, body),
        token,
        NOW,
        ios,
    ),
    st.integers(1, 2**63 - 1),
    st.sampled_from(sorted(KINDS)),
    TEXTS,
    TEXTS,
    TEXTS.filter(bool),
    st.floats(-100, 40 * 86_400),
    st.booleans(),
)


@given(pushes)
def test_an_apns_payload_is_what_apns2_encodes(ios: apns.Apns, push: Push) -> None:
    expected = apns.encoded(push.text, push.send.kind, push.send_id, int(push.send.expires_at))
    assert [ios.request(push, "bearer x").body for _ in range(2)] == [expected, expected]


@given(pushes)
def test_a_message_is_what_firebase_admin_encodes(android: fcm.Fcm, push: Push) -> None:
    ttl = min(fcm.MAX_TTL, max(0, int(push.send.expires_at - NOW)))
    expires_at = str(int(push.send.expires_at))
    made = fcm.message(push.text, push.send.kind, push.send_id, expires_at, ttl, push.token, push.ios)
    expected = fcm.encoded(made)
    assert [android.request(push, "Bearer x").body for _ in range(2)] == [expected, expected]


def test_a_text_that_is_a_mark_is_not_cut() -> None:
    mark = json.dumps(apns._SEND_ID).encode()
    assert Spliced.cut(b"[%b, %b, 1]" % (mark, mark), [mark], [1]) is None


def test_values_go_where_their_marks_were() -> None:
    cut = Spliced.cut(b'["B", 50%, "A", "B"]', [b'"A"', b'"B"'], [1, 2])
    assert cut
    assert cut.filled([b"1", b"%b"]) == b"[%b, 50%, 1, %b]"


@given(st.integers(1, 2**63 - 1), st.sampled_from(sorted(KINDS)), st.dates(), st.text("abz09_-", max_size=64))
def test_the_text_of_a_send_id_is_the_text_of_the_send_id(user: int, kind: str, day: Any, campaign: str) -> None:
    assert send_id_text(user, kind, day, campaign) == str(send_id(user, kind, day, campaign))
