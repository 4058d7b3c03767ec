"""A reminder's text as a letter: letter.txt and letter.html beside this file, filled in."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import NamedTuple

from shared.templates.catalogue import Frame, Text


class Letter(NamedTuple):
    """The same in two forms; a mail program shows one of them."""

    plain: str
    html: str


def letter(text: Text, frame: Frame, link: str) -> Letter:
    """`link`: where a click ends these e-mails."""
    values = {**text._asdict(), **frame._asdict(), "link": link}
    return Letter(
        _template("letter.txt").substitute(values),
        _template("letter.html").substitute({name: escape(value) for name, value in values.items()}),
    )


@cache
def _template(name: str) -> Template:
    return Template((files("shared.templates") / name).read_text(encoding="utf-8"))
