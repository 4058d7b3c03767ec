"""Loads, checks and renders the texts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Formatter
from typing import NamedTuple

from shared.identity import slot
from shared.policy.kinds import KINDS

FALLBACK = "en"
FIELDS = frozenset({"streak", "silent_days"})
"""What a text may fill in. Bare names only: no attributes, no indexes, no formats."""
MAX_TITLE = 50
MAX_BODY = 150
"""Characters, numbers filled in, that a lock screen shows without cutting them off, roughly, on both platforms."""
_LARGE = 36_500
_KEPT = 4096
"""Texts that are kept as rendered: a batch's users differ little, and formatting is most of the work."""
_VARIANT_SHIFT = 16  # The low bits of a multiplicative hash hardly differ between neighbouring ids.


class Text(NamedTuple):
    """What the user reads."""

    title: str
    body: str


class Frame(NamedTuple):
    """What an e-mail says around a text, and the language that it is in (a tag for HTML)."""

    language: str
    direction: str
    """`ltr` or `rtl`."""
    why: str
    stop: str


class Language(NamedTuple):
    """One file."""

    kinds: Mapping[str, tuple[Text, ...]]
    frame: Frame


class TemplateError(ValueError):
    """A file of shared/templates is wrong; the message says where and what to write."""


def _check(place: str, template: str, limit: int) -> str:
    for _, field, spec, conversion in Formatter().parse(template):
        if field is not None and (field not in FIELDS or spec or conversion):
            raise TemplateError(f"{place}: the field {{{field}}} is not one of {sorted(FIELDS)}, written bare.")
    if not template.strip() or len(template.format_map(dict.fromkeys(FIELDS, _LARGE))) > limit:
        raise TemplateError(f"{place}: write 1 to {limit} characters.")
    return template


def _read(file: Traversable) -> Language:
    try:
        kinds = tomllib.loads(file.read_text(encoding="utf-8"))
        frame = kinds.pop("email", None)
        if set(kinds) != set(KINDS) or frame is None:
            raise TemplateError(
                f"{file.name}: write [[{']] [['.join(KINDS)}]], each at least once, [email], and nothing else."
            )
        texts = {
            kind: tuple(
                Text(
                    _check(f"{file.name}, {kind}, title", variant["title"], MAX_TITLE),
                    _check(f"{file.name}, {kind}, body", variant["body"], MAX_BODY),
                )
                for variant in variants
            )
            for kind, variants in kinds.items()
        }
        if frame["direction"] not in ("ltr", "rtl") or set(frame) != {"direction", "why", "stop"}:
            raise TemplateError(f'{file.name}, email: write direction ("ltr" or "rtl"), why and stop.')
        why, stop = (_check(f"{file.name}, email, {name}", frame[name], MAX_BODY) for name in ("why", "stop"))
        return Language(texts, Frame(file.name[:-5], frame["direction"], why, stop))
    except TemplateError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TemplateError(f"{file.name} cannot be used: {error!r}. See en.toml for its form.") from None


class Catalogue:
    """Every text in every language."""

    def __init__(self, languages: Mapping[str, Language]) -> None:
        """`languages`: by lowercase tag (`en`, `es-mx`); `en` must be there."""
        if FALLBACK not in languages:
            raise TemplateError(f"There is no {FALLBACK}.toml: every other language falls back on it.")
        self._languages = languages
        self._kept_texts = lru_cache(_KEPT)(self._filled)
        self._kept_numbers = lru_cache(_KEPT)(lambda kind, locale: len(self._nearest(locale).kinds[kind]))

    @classmethod
    def load(cls, folder: Traversable | None = None) -> Catalogue:
        """Read and check the files, `shared/templates` where no folder is given. Raises `TemplateError`."""
        found = (folder or files(__package__)).iterdir()
        return cls({file.name[:-5].lower(): _read(file) for file in found if file.name.endswith(".toml")})

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(self._languages)

    def variants(self, kind: str, language: str) -> tuple[Text, ...]:
        """The templates of a kind, as they stand in the file."""
        return self._languages[language].kinds[kind]

    def render(self, kind: str, locale: str, user_id: int, *, streak: int = 0, silent_days: int = 0) -> Text:
        """The text for a user: the nearest language (es-MX, then es, then en), always the same variant."""
        variant = (slot(user_id) >> _VARIANT_SHIFT) % self._kept_numbers(kind, locale)
        return self._kept_texts(kind, locale, variant, streak, silent_days)

    def _filled(self, kind: str, locale: str, variant: int, streak: int, silent_days: int) -> Text:
        title, body = self._nearest(locale).kinds[kind][variant]
        values = {"streak": streak, "silent_days": silent_days}
        return Text(title.format_map(values), body.format_map(values))

    def frame(self, locale: str) -> Frame:
        """What goes around a text of that locale."""
        return self._nearest(locale).frame

    def _nearest(self, locale: str) -> Language:
        tag = locale.replace("_", "-").lower()
        while tag:
            if tag in self._languages:
                return self._languages[tag]
            tag = tag.rpartition("-")[0]
        return self._languages[FALLBACK]
