"""The catalogue of texts: whole in every language, safe to fill in, the same for the same user."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.policy.kinds import KINDS
from shared.templates import Catalogue, TemplateError
from shared.templates.catalogue import MAX_BODY, MAX_TITLE

LANGUAGES = ("ar", "en", "es", "ja")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load()


def test_the_languages_are_there(catalogue: Catalogue) -> None:
    assert catalogue.languages == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_language_has_variants_of_every_kind(catalogue: Catalogue, kind: str, language: str) -> None:
    variants = catalogue.variants(kind, language)
    assert len(variants) >= 2
    assert len(set(variants)) == len(variants)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("days", [1, 2, 11, 30, 1000])
def test_texts_are_filled_in_and_short_enough(catalogue: Catalogue, kind: str, language: str, days: int) -> None:
    for user_id in range(1, 50):
        title, body = catalogue.render(kind, language, user_id, streak=days, silent_days=days)
        assert 0 < len(title) <= MAX_TITLE
        assert 0 < len(body) <= MAX_BODY
        assert not {"{", "}"} & set(title + body)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_number_stands_only_where_it_is_known(catalogue: Catalogue, language: str) -> None:
    """A streak may be 0 and silence a matter of hours, but not in the kind that is about them."""
    for kind in KINDS:
        texts = "".join(title + body for title, body in catalogue.variants(kind, language))
        assert ("{streak}" in texts) == (kind == "streak_saver")
        assert ("{silent_days}" in texts) == (kind == "comeback")


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("es-MX", "es"),
        ("es_419", "es"),
        ("ES", "es"),
        ("ja-JP", "ja"),
        ("ar-EG-u-nu-latn", "ar"),
        ("de", "en"),
        ("", "en"),
    ],
)
def test_the_nearest_language_is_chosen(catalogue: Catalogue, locale: str, language: str) -> None:
    assert catalogue.render("practice", locale, 7) in catalogue.variants("practice", language)


def test_a_user_gets_the_same_variant_again_and_users_share_them_evenly(catalogue: Catalogue) -> None:
    texts = [catalogue.render("comeback", "en", user_id, silent_days=7) for user_id in range(1, 3001)]
    assert texts == [catalogue.render("comeback", "en", user_id, silent_days=7) for user_id in range(1, 3001)]
    counts = [texts.count(text) for text in set(texts)]
    assert len(counts) == 3
    assert min(counts) > 800


def _write(folder: Path, title: str = "Hello", kinds: tuple[str, ...] = tuple(KINDS)) -> Path:
    blocks = (f"[[{kind}]]\ntitle = {title!r}\nbody = 'There'\n" for kind in kinds)
    (folder / "en.toml").write_text("\n".join(blocks))
    return folder


@pytest.mark.parametrize(
    "title",
    [
        "{name}",
        "{streak.__class__}",
        "{streak[0]}",
        "{streak!r}",
        "{streak:>99}",
        "{0}",
        "{}",
        "{streak",
        " ",
        "x" * 51,
    ],
)
def test_a_text_that_could_not_be_shown_is_refused_when_loaded(tmp_path: Path, title: str) -> None:
    with pytest.raises(TemplateError, match=r"en\.toml"):
        Catalogue.load(_write(tmp_path, title))


def test_a_language_must_have_every_kind(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="comeback"):
        Catalogue.load(_write(tmp_path, kinds=tuple(KINDS)[:-1]))


def test_english_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"en\.toml"):
        Catalogue.load(tmp_path)
