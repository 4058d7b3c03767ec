"""The event contract as documents: JSON Schema (2020-12) and AsyncAPI 3, generated from the types."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec

from shared.wire.events import MAX_EVENT_BYTES, ActivityEvent, DeviceRegistered

_SUMMARY = (
    "One JSON object a message; key: the user id in decimal. At least once, in any order between users. "
    "A message that breaks the contract goes to the dead-letter topic with its reason and harms nobody else: "
    f"at most {MAX_EVENT_BYTES} bytes, known types and fields only, IANA time zones, times at most 5 minutes ahead."
)


def documents() -> dict[str, str]:
    """File name -> text."""
    return {
        name: json.dumps(document, indent=2) + "\n"
        for name, document in (("activity-event.schema.json", json_schema()), ("asyncapi.json", asyncapi()))
    }


def json_schema() -> dict[str, Any]:
    """What an activity event must look like."""
    (schema,), definitions = msgspec.json.schema_components([ActivityEvent], ref_template="#/$defs/{name}")
    _rules(definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Surnia activity event",
        "description": _SUMMARY,
        **schema,
        "$defs": definitions,
    }


def asyncapi() -> dict[str, Any]:
    """Where to send it: the topic, its key and its messages."""
    types = get_args(ActivityEvent)
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    _rules(schemas)
    names = [kind.__name__ for kind in types]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Surnia activity events", "version": "1.0.0", "description": _SUMMARY},
        "defaultContentType": "application/json",
        "channels": {
            "activity": {
                "address": "activity.events",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            }
        },
        "operations": {
            "receiveActivity": {
                "action": "receive",
                "channel": {"$ref": "#/channels/activity"},
                "messages": [{"$ref": f"#/channels/activity/messages/{name}"} for name in names],
            }
        },
        "components": {
            "messages": {
                kind.__name__: {
                    "name": kind.__struct_config__.tag,
                    "summary": (kind.__doc__ or "").strip().splitlines()[0],
                    "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
                    "bindings": {"kafka": {"key": {"type": "string", "description": "the user id in decimal"}}},
                }
                for kind in types
            },
            "schemas": schemas,
        },
    }


def _rules(definitions: dict[str, Any]) -> None:
    """What types cannot say: `DeviceRegistered.__post_init__`."""
    definitions[DeviceRegistered.__name__] |= {
        "if": {"required": ["fcm_token"], "properties": {"fcm_token": {"type": "string"}}},
        "then": {"properties": {"platform": {"const": "ios"}}},
    }
