"""What the bench's producers say: sessions of users, as an app reports them, about 120 bytes an event.

A session is: the app is opened, a lesson is started, most are completed, and often another one follows. Three users in
a hundred register their device anew, two change their preferences. The sessions of a few thousand users overlap at any
time, so a user's events lie apart, as they do in a topic that a whole population writes to.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random

import numpy as np

from infra.bench.ids import Ids
from shared.clock import utc
from shared.producer import Record

USERS = 200_000
_AT_ONCE = 5_000
"""Sessions that overlap."""
_COMPLETED, _ANOTHER, _REGISTERS, _PREFERS = 0.9, 0.5, 0.03, 0.02
_ZONES = (
    "America/New_York", "America/Chicago", "America/Los_Angeles", "America/Sao_Paulo", "America/Mexico_City",
    "Europe/London", "Europe/Paris", "Europe/Berlin", "Europe/Istanbul", "Africa/Cairo", "Africa/Lagos",
    "Asia/Kolkata", "Asia/Kathmandu", "Asia/Tokyo", "Asia/Shanghai", "Asia/Jakarta", "Australia/Sydney",
)  # fmt: skip


def users(n: int = USERS) -> list[int]:
    """Random ids of 60 bits, as apps have them."""
    found: list[int] = Ids.sparse.numbers(0, n).astype(np.int64).tolist()
    return found


def zone_of(user: int) -> str:
    """Where a user is."""
    return _ZONES[user % len(_ZONES)]


def events(n: int, ends_at: float, topic: str, seed: int = 1) -> Iterator[Record]:
    """The first n of a stream that ends at an instant, 2,000 a second before it."""
    random, known = Random(seed), users()  # noqa: S311  # the same events every time, no secret
    sessions: list[Iterator[tuple[str, int, str]]] = []
    numbers = count()
    for number in range(n):
        at = utc(round(ends_at - (n - number) / 2_000, 3)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        while True:
            if len(sessions) < _AT_ONCE:
                place = len(sessions)
                sessions.append(_session(random, known[random.randrange(len(known))], numbers))
            else:
                place = random.randrange(_AT_ONCE)
            said = next(sessions[place], None)
            if said:
                break
            sessions[place] = sessions[-1]
            sessions.pop()
        kind, user, more = said
        zone = zone_of(user)
        text = f'{{"type":"{kind}","user_id":{user},"at":"{at}","time_zone":"{zone}"{more}}}'
        yield Record(topic, str(user).encode(), text.encode())


def _session(random: Random, user: int, numbers: Iterator[int]) -> Iterator[tuple[str, int, str]]:
    yield "app_opened", user, ""
    if random.random() < _REGISTERS:
        token = f"{random.getrandbits(256):064x}"
        yield "device_registered", user, f',"device_id":"d{user}","platform":"ios","token":"{token}"'
    if random.random() < _PREFERS:
        yield "preferences_changed", user, ',"opted_out":[]'
    while True:
        lesson = f',"lesson_id":"{next(numbers):x}"'
        yield "lesson_started", user, lesson
        if random.random() < _COMPLETED:
            yield "lesson_completed", user, lesson
        if random.random() >= _ANOTHER:
            return
