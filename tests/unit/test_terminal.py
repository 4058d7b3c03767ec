"""What commands have in common: lines that are typed, who types them, sizes."""

from __future__ import annotations

import getpass
import os
import socket

import pytest
import typer

from shared.terminal import myself, one_line, size


@pytest.mark.parametrize(("count", "said"), [(0, "0 B"), (12_345, "12 kB"), (72e6, "72 MB"), (1.25e9, "1.2 GB")])
def test_sizes_are_said(count: int, said: str) -> None:
    assert size(count) == said


def test_a_line_is_taken_without_the_spaces_around_it() -> None:
    assert one_line("  Apple says so ", "--reason", 13) == "Apple says so"


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "\x1b[31mred", "fourteen chars"])
def test_what_is_no_line_or_too_long_is_refused_by_its_option(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="1–13 printable") as caught:
        one_line(text, "--reason", 13)
    assert caught.value.param_hint == "--reason"


def test_who_types_is_a_number_where_the_user_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError(os.getuid())

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert myself() == f"{os.getuid()}@{socket.gethostname()}"
