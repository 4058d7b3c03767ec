"""Delivery: batches of sends to Apple's and Google's push services, each send's outcome back."""

from stream.delivery.deliverer import Deliverer, open_providers
from stream.delivery.http2 import Http2Engine
from stream.delivery.http2_batch import EngineClosedError
from stream.delivery.provider import SetupError

__all__ = ["Deliverer", "EngineClosedError", "Http2Engine", "SetupError", "open_providers"]
