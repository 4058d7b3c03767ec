"""A deliverer over a fake gate, a fake engine and providers in plain words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from shared.gate.contract import Claim, GateUnavailableError, SendKey, Standing
from shared.gate.rules import Rule
from shared.patience import Patience
from shared.policy.kinds import KindName, Path
from shared.templates import Catalogue
from shared.wire.sends import Outcome, OutcomeBatch, Send, SendBatch, Target
from stream.delivery.backoff import Backoff
from stream.delivery.deliverer import Deliverer
from stream.delivery.errors import ACCEPTED, Action, Verdict
from stream.delivery.exchange import Answer, PushRequest, PushResponse, TransportError
from stream.delivery.pauses import Pauses
from stream.delivery.provider import PayloadTooLargeError, Push

NOW = 1_760_000_000.0
DAY = date(2025, 10, 9)
OK = PushResponse(200, seconds=0.25)
TIMEOUT = TransportError("timeout", sent=True, seconds=10.0)


def refusal(action: Action, reason: str, after: float | None = None, at: float | None = None) -> PushResponse:
    """An answer that the fake providers read as this verdict."""
    return PushResponse(500, f"{action} {reason} {after or ''} {at or ''}".encode())


UNREGISTERED = refusal(Action.retire, "apns_410_unregistered", at=NOW - 5)
BUSY = refusal(Action.retry, "apns_503_service_unavailable")
EXPIRED_TOKEN = refusal(Action.remint, "apns_403_expired_provider_token")
BAD_TOPIC = refusal(Action.stop, "apns_400_bad_topic")


class FakeProvider:
    def __init__(self, name: str) -> None:
        self.name = name
        self.minted = 1
        self.errors: list[Exception] = []

    async def credentials(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return f"v{self.minted}"

    def reject(self, credentials: str) -> None:
        if credentials == f"v{self.minted}":
            self.minted += 1

    def request(self, push: Push, credentials: str) -> PushRequest:
        if push.token == "long":
            raise PayloadTooLargeError
        if push.token == "":
            raise ValueError("no token")
        return PushRequest(push.token, [credentials, push.send_id], push.text.title.encode())

    def verdict(self, answer: PushResponse) -> Verdict:
        if answer.status == 200:
            return ACCEPTED
        action, reason, after, at = answer.body.decode().split(" ")
        return Verdict(Action(action), reason, float(after) if after else None, float(at) if at else None)


class World:
    """A deliverer and all that is around it, at one's fingertips."""

    def __init__(self, without: str = "") -> None:
        self.instant = NOW
        self.standings: dict[SendKey, Standing] = {}
        self.claims: dict[SendKey, Claim] = {}
        self.claimed: list[tuple[Path, str, date, list[int], str]] = []
        self.rules: list[Rule] = []
        self.asked_for_pauses = 0
        self.parked: list[SendBatch] = []
        self.settled: list[list[SendKey]] = []
        self.gate_down = 0
        self.gate_error: Exception = GateUnavailableError("down")
        self.answers: dict[str, list[Answer]] = {}
        self.sent: list[list[str]] = []
        self.headers: list[list[str]] = []
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None
        self.apns, self.fcm = FakeProvider("apns"), FakeProvider("fcm")
        providers: Any = {"ios": self.apns, "android": self.fcm}
        providers.pop(without, None)
        backoff = Backoff(base=1.0, cap=8.0, draw=lambda _low, high: high)
        self.patience = patience = Patience(self.sleep)
        pauses = Pauses(self, patience, self.now)
        self.deliverer = Deliverer(self, self, pauses, self, providers, Catalogue.load(), patience, backoff)

    def now(self) -> float:
        return self.instant

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.instant += seconds
        self.on_sleep()
        await asyncio.sleep(0)

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        raise NotImplementedError

    async def opt_out(self, choices: Sequence[tuple[int, date, int]]) -> None:
        raise NotImplementedError

    async def claim(self, path: Path, kind: str, day: date, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        self._gate()
        self.claimed.append((path, kind, day, list(user_ids), campaign))
        return [self.claims.get(SendKey(user_id, kind, day, campaign), Claim.granted) for user_id in user_ids]

    async def pauses(self) -> tuple[Rule, ...]:
        self._gate()
        self.asked_for_pauses += 1
        return tuple(self.rules)

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        self._gate()
        return [self.standings.get(key, Standing.clear) for key in keys]

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        self._gate()
        self.settled.append(list(keys))
        self.standings.update(dict.fromkeys(keys, Standing.settled))

    def _gate(self) -> None:
        if self.gate_down:
            self.gate_down -= 1
            raise self.gate_error

    async def send(self, requests: Sequence[PushRequest]) -> list[Answer]:
        """The engine: each token's answers in order, and accepted when there are none left."""
        if requests:
            self.sent.append([request.url for request in requests])
        self.headers += [request.headers for request in requests]
        left = (self.answers.get(request.url) for request in requests)
        return [answers.pop(0) if answers else OK for answers in left]

    async def deliver(self, *sends: Send) -> OutcomeBatch:
        outcomes, parked = await self.deliverer.deliver(SendBatch(Path.stream, NOW - 1, sends))
        assert len(outcomes.outcomes) + len(parked.sends) == len({send.user_id for send in sends})
        self.parked.append(parked)
        return outcomes

    async def outcome(self, *tokens: str, expires_in: float = 600.0) -> Outcome:
        return (await self.deliver(send(1, *tokens, expires_in=expires_in))).outcomes[0]


def send(user_id: int, *tokens: str, expires_in: float = 600.0, kind: KindName = "practice", name: str = "") -> Send:
    """A send to devices; a token that starts with `g` is an Android's."""
    targets = tuple(Target(f"d-{token}", "android" if token.startswith("g") else "ios", token) for token in tokens)
    return Send(user_id, kind, DAY, NOW - 60, NOW + expires_in, "UTC", "en", 0, 0, targets, name)


def key(user_id: int) -> SendKey:
    return SendKey(user_id, "practice", DAY)
