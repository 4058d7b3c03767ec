"""The contract that producers read says what workers accept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from shared.identity import MAX_USER_ID
from shared.wire.events import ActivityEvent, BadEventError, decode_event
from shared.wire.schema import asyncapi, documents, json_schema

DOCS = Path(__file__).parents[2] / "docs" / "events"
NOW = 1_795_262_400.0
COMMON: dict[str, Any] = {"user_id": 7, "at": "2026-11-21T12:00:00Z"}
DEVICE: dict[str, Any] = {"type": "device_registered", "device_id": "d", "platform": "android", "token": "t" * 64}

VALID: list[dict[str, Any]] = [
    {"type": "app_opened"},
    {"type": "app_opened", "time_zone": "Asia/Kathmandu", "locale": "ne"},
    {"type": "app_opened", "time_zone": None, "locale": None},
    {"type": "lesson_started", "lesson_id": "l"},
    {"type": "lesson_completed", "user_id": MAX_USER_ID},
    DEVICE,
    DEVICE | {"app_version": "4.2 (17)"},
    DEVICE | {"fcm_token": None},
    DEVICE | {"platform": "ios", "fcm_token": "f" * 142},
    {"type": "device_removed", "device_id": "d"},
    {"type": "preferences_changed", "opted_out": []},
    {"type": "preferences_changed", "opted_out": ["practice", "streak_saver", "abandoned_lesson", "comeback"]},
    {"type": "preferences_changed", "email": "ada.o'hara+owl@mail.example.com", "email_opted_out": False},
    {"type": "preferences_changed", "email": ""},
    {"type": "user_deleted"},
]

INVALID: list[dict[str, Any]] = [
    {},
    {"type": "lesson_skipped"},
    {"type": "app_opened", "user_id": 0},
    {"type": "app_opened", "user_id": 2**63},
    {"type": "app_opened", "user_id": "7"},
    {"type": "app_opened", "surprise": True},
    {"type": "app_opened", "at": 1_795_262_400},
    {"type": "app_opened", "time_zone": ""},
    {"type": "app_opened", "time_zone": "A" * 65},
    {"type": "app_opened", "locale": "english language"},
    {"type": "app_opened", "locale": "en\n"},
    {"type": "lesson_started", "lesson_id": "l" * 129},
    {"type": "device_removed"},
    DEVICE | {"platform": "windows"},
    DEVICE | {"token": "short"},
    DEVICE | {"token": "t" * 64 + "\n"},
    DEVICE | {"app_version": "1\0"},
    DEVICE | {"fcm_token": "f" * 142},
    DEVICE | {"platform": "ios", "fcm_token": "short"},
    {"type": "preferences_changed", "opted_out": ["email"]},
    {"type": "preferences_changed", "opted_out": ["practice"] * 17},
    {"type": "preferences_changed", "email": "ada"},
    {"type": "preferences_changed", "email": "ada@example.com\n"},
    {"type": "preferences_changed", "email": f"{'a' * 65}@example.com"},
    {"type": "preferences_changed", "email": f"a@{'a.' * 127}com"},
    {"type": "preferences_changed", "email_opted_out": "yes"},
    {"type": "user_deleted", "device_id": "d"},
]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema()


def references(node: object) -> Iterator[str]:
    """Every `$ref` and every target of a discriminator, wherever it stands."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        if isinstance(mapping := node.get("mapping"), dict):
            yield from mapping.values()
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def resolve(document: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/")
    found: Any = document
    for step in reference[2:].split("/"):
        found = found[step]
    return found


def test_the_schema_is_one(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$schema"]


@pytest.mark.parametrize("event", VALID, ids=str)
def test_what_the_schema_allows_is_accepted(schema: dict[str, Any], event: dict[str, Any]) -> None:
    Draft202012Validator(schema).validate(COMMON | event)
    decode_event(json.dumps(COMMON | event).encode(), NOW)


@pytest.mark.parametrize("event", INVALID, ids=lambda event: str(event)[:60])
def test_what_the_schema_forbids_is_refused(schema: dict[str, Any], event: dict[str, Any]) -> None:
    assert not Draft202012Validator(schema).is_valid(COMMON | event)
    with pytest.raises(BadEventError):
        decode_event(json.dumps(COMMON | event).encode(), NOW)


def test_the_examples_cover_every_type() -> None:
    assert {event["type"] for event in VALID} == {kind.__struct_config__.tag for kind in get_args(ActivityEvent)}


@pytest.mark.parametrize("document", [json_schema(), asyncapi()], ids=["json schema", "asyncapi"])
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = list(references(document))
    assert found
    for reference in found:
        assert isinstance(resolve(document, reference), dict)


def test_asyncapi_names_every_type_and_its_payload() -> None:
    messages = asyncapi()["components"]["messages"]
    assert {message["name"] for message in messages.values()} == {event["type"] for event in VALID}
    for message in messages.values():
        assert resolve(asyncapi(), message["payload"]["$ref"])["properties"]["type"]["enum"] == [message["name"]]
        assert message["summary"]


def test_the_payloads_of_asyncapi_validate_as_well() -> None:
    document = asyncapi()
    tags = {message["name"]: message["payload"]["$ref"] for message in document["components"]["messages"].values()}
    for event in VALID:
        Draft202012Validator({**document, "$ref": tags[event["type"]]}).validate(COMMON | event)


@pytest.mark.parametrize("name", sorted(documents()))
def test_the_documents_in_the_repository_are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == documents()[name], "run `surnia events schema docs/events`"


def test_the_repository_holds_no_other_documents_of_the_contract() -> None:
    assert {path.name for path in DOCS.glob("*.json")} == set(documents())
