"""The RSGI application: routes a request to its provider, applies the faults, tells the witness."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from infra.simulator.admin import Admin
from infra.simulator.apns import VOIP_PAYLOAD_LIMIT, Apns, message_id
from infra.simulator.apns_auth import ProviderTokens
from infra.simulator.config import SimulatorConfig
from infra.simulator.devices import Devices
from infra.simulator.faults import Fault, Faults, read_faults
from infra.simulator.faults.transport import OfRequest
from infra.simulator.fcm import BODY_LIMIT as FCM_BODY_LIMIT
from infra.simulator.fcm import Fcm
from infra.simulator.front.counts import Counts
from infra.simulator.journal import Journal, read_journal
from infra.simulator.oauth import BODY_LIMIT as OAUTH_BODY_LIMIT
from infra.simulator.oauth import AccessTokens, TokenEndpoint
from infra.simulator.push import Push
from infra.simulator.reasons import Refused
from infra.simulator.recent import RecentPushes
from infra.simulator.reply import (
    JSON,
    Reply,
    apns_refusal,
    encode,
    fcm_refusal,
    json_reply,
    oauth_refusal,
    unanswered,
)
from infra.simulator.wire import Breakable, HttpProtocol, Scope, read_body, send
from infra.simulator.witness import Witness
from shared.clock import Clock, SystemClock

APNS_PATH: Final = "/3/device/"
FCM_PATH: Final = "/v1/projects/"
FCM_VERB: Final = "/messages:send"
logger = logging.getLogger(__name__)


class Simulator:
    """Everything behind the port; one event loop uses it, so nothing is locked."""

    def __init__(self, config: SimulatorConfig, clock: Clock) -> None:
        self._clock = clock
        self.faults = Faults()
        self.counts = Counts()
        self.on_rules: Callable[[], Awaitable[None]] | None = None  # lets the servers know
        if config.faults:
            self.faults.set(read_faults(config.faults), clock.now())
        self._witness = Witness(_devices(config.devices))
        self._recent = RecentPushes()
        self._apns = Apns(ProviderTokens(config.apns_public_key, config.team_id, config.key_id), config.topic)
        machine = SystemClock()
        access = AccessTokens(machine)
        self._fcm = Fcm(access, config.project_id)
        token_uri = f"{config.url}/token"
        self._oauth = TokenEndpoint(access, config.fcm_public_key, machine, config.client_email, token_uri)
        self._journal = self._open_journal(config.journal) if config.journal else None
        self._admin = Admin(config.admin_token, self._witness, self._recent, self.counts, self._journal, self)
        self._ids = itertools.count(round(clock.now() * 1_000_000))

    async def __rsgi__(self, scope: Scope, proto: HttpProtocol) -> None:
        try:
            reply = await self._answer(scope, proto)
        except Exception:
            logger.exception("The simulator failed on %s %.200s", scope.method, scope.path)
            reply = json_reply(500, {"error": "The simulator itself failed: see its log."})
        send(proto, reply)

    async def set_faults(self, rules: list[Fault]) -> None:
        """Replace all rules; returns once the server that they need has the port."""
        self.faults.set(rules, self._clock.now())
        if self.on_rules:
            await self.on_rules()

    async def _answer(self, scope: Scope, proto: HttpProtocol) -> Reply:
        path = scope.path
        if path.startswith(APNS_PATH):
            return await self._answer_apns(scope, proto, path[len(APNS_PATH) :])
        if path.startswith(FCM_PATH):
            return await self._answer_fcm(scope, proto, path[len(FCM_PATH) :])
        if path == "/token":
            return await self._answer_oauth(scope, proto)
        if path.startswith("/admin/"):
            return await self._admin.answer(scope, proto)
        if path == "/healthz":
            return json_reply(200, {"healthy": True})
        self._witness.rejected("BadPath")
        return apns_refusal(Refused("BadPath"), message_id(scope.headers))

    async def _answer_apns(self, scope: Scope, proto: HttpProtocol, token: str) -> Reply:
        headers = scope.headers
        apns_id = message_id(headers)
        try:
            if scope.method != "POST":
                raise Refused("MethodNotAllowed")
            body = await read_body(headers, proto, VOIP_PAYLOAD_LIMIT)
            if body is None:
                raise Refused("PayloadTooLarge")
            push = self._apns.check(token, apns_id, headers, body, self._clock.now())
            fault = await self._suffer("apns", push.token, proto)
        except Refused as refused:
            self._witness.rejected(refused.reason)
            return apns_refusal(refused, apns_id)
        if fault and fault.when == "before":
            return unanswered(fault)
        self._accept(push)
        return Reply(200, [("apns-id", apns_id)], fault=fault)

    async def _answer_fcm(self, scope: Scope, proto: HttpProtocol, rest: str) -> Reply:
        project, slash, verb = rest.partition("/")
        try:
            if scope.method != "POST" or slash + verb != FCM_VERB:
                raise Refused("NOT_FOUND", "The requested URL was not found on this server.")
            body = await read_body(scope.headers, proto, FCM_BODY_LIMIT)
            if body is None:
                raise Refused("INVALID_ARGUMENT", f"Request payload size exceeds the limit: {FCM_BODY_LIMIT} bytes.")
            push, only_validated = self._fcm.check(project, scope.headers.get("authorization"), body)
            fault = await self._suffer("fcm", push.token, proto)
        except Refused as refused:
            self._witness.rejected(refused.reason)
            return fcm_refusal(refused)
        if fault and fault.when == "before":
            return unanswered(fault)
        if only_validated:
            name = "fake_message_id"
        else:
            self._accept(push)
            name = f"0:{next(self._ids)}"
        return Reply(200, [JSON], encode({"name": f"projects/{project}/messages/{name}"}), fault)

    async def _answer_oauth(self, scope: Scope, proto: HttpProtocol) -> Reply:
        try:
            if scope.method != "POST":
                raise Refused("invalid_request", "Only POST is served.", status=405)
            body = await read_body(scope.headers, proto, OAUTH_BODY_LIMIT)
            if body is None:
                raise Refused("invalid_request", f"At most {OAUTH_BODY_LIMIT} bytes are read.", status=413)
            token = self._oauth.answer(body)
            fault = await self._suffer("oauth", "", proto)
            if fault and fault.when == "before":
                return unanswered(fault)
            return json_reply(200, token)._replace(fault=fault)
        except Refused as refused:
            self._witness.rejected(refused.reason)
            return oauth_refusal(refused)

    async def _suffer(self, provider: str, token: str, proto: HttpProtocol) -> OfRequest | None:
        """Apply the faults to a request that is good in itself; raises Refused, returns how to break it off.

        Nothing is awaited after it until the request is accepted: the front relies on that.
        """
        breakable = self.faults.of_transport and isinstance(proto, Breakable)
        verdict = self.faults.judge(provider, token, self._clock.now(), breakable=breakable)
        if verdict is None:
            return None
        if verdict.delay:
            await asyncio.sleep(verdict.delay)
        if verdict.refusal:
            raise verdict.refusal
        if verdict.transport:
            self.counts.broke(verdict.transport)
        return verdict.transport

    def _accept(self, push: Push) -> None:
        now = self._clock.now()
        if self._journal:
            self._journal.write(push, now)
        self._remember(push, now)

    def _open_journal(self, path: Path) -> Journal:
        journal = Journal(path)
        for record in read_journal(path):
            self._remember(record.push, record.at)
        return journal

    def _remember(self, push: Push, now: float) -> None:
        self._witness.accepted(push, now)
        self._recent.add(push, now)


def _devices(path: Path | None) -> Devices:
    return Devices.read(path) if path else Devices()
