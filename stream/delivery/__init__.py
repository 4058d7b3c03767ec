"""Delivery: batches of sends to Apple's and Google's push services, each send's outcome back."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream.delivery.deliverer import Deliverer, open_providers
    from stream.delivery.http2 import Http2Engine
    from stream.delivery.http2_batch import EngineClosedError
    from stream.delivery.provider import SetupError

__all__ = ["Deliverer", "EngineClosedError", "Http2Engine", "SetupError", "open_providers"]

_HOMES = {
    "Deliverer": "deliverer",
    "EngineClosedError": "http2_batch",
    "Http2Engine": "http2",
    "SetupError": "provider",
    "open_providers": "deliverer",
}


def __getattr__(name: str) -> Any:
    """At first use: the providers' libraries take a second, and `surnia` imports the commands in here at its start."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
