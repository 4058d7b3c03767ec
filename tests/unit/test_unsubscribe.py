"""Links that take people off: nobody can make one for somebody else."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.identity import MAX_USER_ID
from shared.settings import Settings
from shared.unsubscribe import BadTokenError, Unsubscribe, UnsubscribeSetupError, token_in

KEY, OTHER = "k" * 32, "o" * 32
URL = "https://app.example.com/unsubscribe"


def links(keys: str = KEY, url: str = URL) -> Unsubscribe:
    values: dict[str, Any] = {"unsubscribe_keys": keys, "unsubscribe_url": url}
    return Unsubscribe(Settings.model_validate(values))


@given(st.integers(1, MAX_USER_ID))
def test_a_link_says_whose_it_is(user_id: int) -> None:
    (token,) = parse_qs(urlsplit(links().link(user_id)).query)["t"]
    assert len(token) == 32
    assert links().user_of(token) == user_id
    assert token_in(token) == token_in(links().link(user_id)) == token


def test_what_the_address_has_of_its_own_stays() -> None:
    link = links(url=URL + "?from=mail&lang=#top").link(7)
    assert link == f"{URL}?from=mail&lang=&t={links().token(7)}"


def test_a_link_is_the_same_every_time_and_another_for_everybody() -> None:
    assert links().link(7) == links().link(7) != links().link(8)


@given(st.text(max_size=60))
def test_what_somebody_made_up_is_refused(token: str) -> None:
    with pytest.raises(BadTokenError):
        links().user_of(token)


@given(st.integers(0, 31), st.sampled_from("ABab01_-"))
def test_a_token_that_was_changed_is_refused_or_still_the_same_user_s(place: int, letter: str) -> None:
    token = links().token(7)
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(BadTokenError):
            links().user_of(changed)


def test_a_key_is_changed_without_breaking_the_links_that_are_out() -> None:
    old = links().token(7)
    assert links(f"{OTHER}, {KEY}").user_of(old) == 7
    assert links(f"{OTHER},{KEY}").token(7) != old
    with pytest.raises(BadTokenError):
        links(OTHER).user_of(old)


@pytest.mark.parametrize("keys", ["", "short", f"{KEY},short", ","])
def test_a_key_that_can_be_guessed_is_refused(keys: str) -> None:
    with pytest.raises(UnsubscribeSetupError, match="SURNIA_UNSUBSCRIBE_KEYS"):
        links(keys)


@pytest.mark.parametrize(
    "url",
    ["", "http://app.example.com/", "https://", "mailto:a@b.example", URL + "\r\nBcc: x", URL + "> <x", URL + "/é"],
)
def test_an_address_that_no_header_can_carry_is_refused(url: str) -> None:
    with pytest.raises(UnsubscribeSetupError, match="SURNIA_UNSUBSCRIBE_URL"):
        links(url=url)
