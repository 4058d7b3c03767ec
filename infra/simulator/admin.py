"""`/admin/*`: counts, pushes and faults, for whoever holds the admin token."""

from __future__ import annotations

import hmac
from typing import Final, Protocol
from urllib.parse import parse_qs

import msgspec

from infra.simulator.faults import Fault, Faults, decode_faults
from infra.simulator.front.counts import Counts
from infra.simulator.journal import Journal
from infra.simulator.recent import RecentPushes
from infra.simulator.reply import Reply, json_reply
from infra.simulator.wire import HttpProtocol, Scope, read_body
from infra.simulator.witness import Witness

BODY_LIMIT: Final = 16 * 1024 * 1024  # a rule may list 200,000 tokens


class Ruled(Protocol):
    """What the rules are set for."""

    faults: Faults

    async def set_faults(self, rules: list[Fault]) -> None: ...


class Admin:
    def __init__(
        self,
        token: str,
        witness: Witness,
        recent: RecentPushes,
        counts: Counts,
        journal: Journal | None,
        ruled: Ruled,
    ) -> None:
        self._secret = token.encode()
        self._witness = witness
        self._recent = recent
        self._counts = counts
        self._journal = journal
        self._ruled = ruled

    async def answer(self, scope: Scope, proto: HttpProtocol) -> Reply:
        if not self._secret:
            return json_reply(403, {"error": "Admin is closed: start the simulator with --admin-token."})
        scheme, _, given = (scope.headers.get("authorization") or "").partition(" ")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._secret) or scheme.lower() != "bearer":
            return json_reply(401, {"error": "The admin token is missing or wrong."})
        match scope.method, scope.path.removeprefix("/admin/"):
            case "GET", "stats":
                return json_reply(200, self._witness.stats() | {"transport": self._counts.listed()})
            case "GET", "pushes":
                return self._pushes(scope.query_string)
            case "GET", "faults":
                return json_reply(200, self._ruled.faults.listed())
            case "PUT", "faults":
                return await self._set_faults(await read_body(scope.headers, proto, BODY_LIMIT))
            case "POST", "reset":
                self._witness.reset()
                self._recent.clear()
                self._counts.reset()
                if self._journal:
                    self._journal.clear()
                return json_reply(200, {"reset": True})
        return json_reply(404, {"error": "Known: GET stats, pushes?token=, faults; PUT faults; POST reset."})

    def _pushes(self, query: str) -> Reply:
        try:
            token = parse_qs(query, max_num_fields=8).get("token", [""])[0]
        except ValueError:
            token = ""
        if not token:
            return json_reply(400, {"error": "Name a device: /admin/pushes?token=…"})
        return json_reply(200, self._recent.of(token))

    async def _set_faults(self, body: bytes | None) -> Reply:
        if body is None:
            return json_reply(413, {"error": f"At most {BODY_LIMIT} bytes of rules."})
        try:
            rules = decode_faults(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return json_reply(400, {"error": str(error)})
        await self._ruled.set_faults(rules)
        return json_reply(200, {"rules": len(rules)})
