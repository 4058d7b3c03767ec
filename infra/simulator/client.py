"""A small verified-TLS client for the simulator's admin address, on the standard library alone."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

SECONDS = 30.0


class AdminError(RuntimeError):
    """The simulator refused an admin call; the message says why."""


class AdminClient:
    def __init__(self, url: str, ca_file: Path, admin_token: str) -> None:
        self._url = url
        self._token = admin_token
        self._tls = ssl.create_default_context(cafile=str(ca_file))

    def healthy(self) -> bool:
        return bool(self._call("GET", "/healthz")["healthy"])

    def stats(self) -> dict[str, Any]:
        """The witness's counts."""
        return cast(dict[str, Any], self._call("GET", "/admin/stats"))

    def pushes(self, token: str) -> list[dict[str, Any]]:
        """The last accepted pushes for a device, the oldest first."""
        return cast(list[dict[str, Any]], self._call("GET", f"/admin/pushes?token={quote(token, safe='')}"))

    def faults(self) -> list[dict[str, Any]]:
        """The rules in force, each with its hits."""
        return cast(list[dict[str, Any]], self._call("GET", "/admin/faults"))

    def set_faults(self, *rules: dict[str, Any]) -> None:
        """Replace all rules; without any, the providers are well again."""
        self._call("PUT", "/admin/faults", rules)

    def reset(self) -> None:
        """Forget all counts and pushes; the rules stay."""
        self._call("POST", "/admin/reset")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data=data, headers=headers, method=method)  # noqa: S310  # https, always
        try:
            with urlopen(request, timeout=SECONDS, context=self._tls) as answer:  # noqa: S310
                return json.load(answer)
        except HTTPError as error:
            with error:
                raise AdminError(f"{method} {path}: {error.code} {error.read(2000).decode(errors='replace')}") from None
