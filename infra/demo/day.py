"""What the demo's users do in a day: practise at their hour, abandon lessons, change devices; and what goes wrong.

Everything follows from the seed. Events are kept in a file a step of the clock, so memory does not grow with the users.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from random import Random

from batch.users.files import WITNESS_HEADER, witness_lines
from batch.users.population import GeneratedUser
from shared.clock import utc
from shared.policy.localtime import instant_of, local_date
from shared.wire.events import (
    ActivityEvent,
    AppOpened,
    DeviceRegistered,
    DeviceRemoved,
    LessonCompleted,
    LessonStarted,
    PreferencesChanged,
    UserDeleted,
    encode_event,
)

PRACTISES_SHARE = 0.7
"""Of the active users, on a given day."""
RETURNS_SHARE = 0.004
"""Of the silent users, on a given day."""
ABANDONS_SHARE = 0.12
SENT_TWICE_SHARE = 0.02
"""Of the events: producers retry."""
BAD_SHARE = 0.002
MINUTE = 60.0

_BAD = (
    b'{"type":"lesson_completed","user_id":',
    b'{"type":"lesson_dreamt","user_id":7,"at":"2026-01-01T00:00:00Z"}',
    b'{"type":"app_opened","user_id":7,"at":"2026-01-01T00:00:00Z","time_zone":"Mars/Olympus_Mons"}',
    b'{"type":"app_opened","user_id":-7,"at":"2026-01-01T00:00:00Z"}',
    b'{"type":"app_opened","user_id":7,"at":"2100-01-01T00:00:00Z"}',
    b"\x00\xff not JSON at all",
    b'{"type":"app_opened","pad":"' + b"x" * 20_000 + b'"}',
)


class Day:
    """Events of the day that begins at `start` (unix seconds), cut into steps of `step` seconds."""

    def __init__(self, folder: Path, start: float, hours: int, step: float, seed: int) -> None:
        self._folder = folder
        self._start = start
        self._end = start + hours * 3600
        self._step = step
        self._seed = seed
        self.steps = round((self._end - start) / step)

    def write(self, population: Iterable[list[GeneratedUser]], devices_file: Path) -> None:
        """Think up the day of every user: a file a step, and the file that tells the simulator where devices are."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            files = [stack.enter_context(self._file(n).open("wb")) for n in range(self.steps)]
            devices = stack.enter_context(devices_file.open("w"))
            devices.write(WITNESS_HEADER)
            for users in population:
                for user in users:
                    rng = Random(f"{self._seed}:{user.id}")  # noqa: S311  # a simulation, no secret
                    seen = [line for device in user.devices for line in witness_lines(device, user.time_zone)]
                    for event in sorted(self._user(user, rng), key=lambda event: event.instant):
                        if not self._start <= event.instant < self._end:
                            continue
                        if isinstance(event, DeviceRegistered):
                            # Of the same device (`_changes`), which keeps its FCM token.
                            seen += witness_lines(user.devices[0]._replace(token=event.token), user.time_zone)
                        file = files[int((event.instant - self._start) / self._step)]
                        line = str(event.user_id).encode() + b"\t" + encode_event(event) + b"\n"
                        file.write(line * (2 if rng.random() < SENT_TWICE_SHARE else 1))
                        if rng.random() < BAD_SHARE:
                            file.write(b"7\t" + rng.choice(_BAD) + b"\n")
                        if isinstance(event, UserDeleted):
                            break
                    devices.writelines(seen)
            # However few the users, each mistake is made once.
            for n, bad in enumerate(_BAD):
                files[n % self.steps].write(b"7\t" + bad + b"\n")

    def events(self, n: int) -> Iterator[tuple[bytes, bytes]]:
        """(key, message) of a step, in the order in which they happened to each user."""
        with self._file(n).open("rb") as file:
            for line in file:
                key, _, value = line.rstrip(b"\n").partition(b"\t")
                yield key, value

    def _file(self, n: int) -> Path:
        return self._folder / f"{n:05}.events"

    def _user(self, user: GeneratedUser, rng: Random) -> Iterator[ActivityEvent]:
        share = PRACTISES_SHARE if user.active else RETURNS_SHARE
        day = local_date(self._start, user.time_zone)
        while instant_of(day, 0, user.time_zone) < self._end:
            if rng.random() < share:
                at = instant_of(day, user.practice_hour, user.time_zone) + rng.gauss(0, 40) * MINUTE
                yield from _session(user, at, rng)
                if rng.random() < 0.15:
                    yield from _session(user, at + rng.uniform(2, 5) * 60 * MINUTE, rng)
            day += timedelta(days=1)
        if user.active:
            yield from _changes(user, self._start + rng.random() * (self._end - self._start), rng)


def _session(user: GeneratedUser, at: float, rng: Random) -> Iterator[ActivityEvent]:
    """Open the app, start a lesson, and mostly finish it."""
    zone = user.time_zone
    yield AppOpened(user_id=user.id, at=utc(at), time_zone=zone)
    yield LessonStarted(user_id=user.id, at=utc(at + MINUTE), time_zone=zone)
    if rng.random() >= ABANDONS_SHARE:
        yield LessonCompleted(user_id=user.id, at=utc(at + rng.uniform(4, 20) * MINUTE), time_zone=zone)


def _changes(user: GeneratedUser, at: float, rng: Random) -> Iterator[ActivityEvent]:
    """The rarer things: a new token, signing out, a choice, goodbye."""
    what = rng.random()
    if what < 0.02 and user.devices:
        old = user.devices[0]
        ios = old.platform == "ios"
        yield DeviceRegistered(
            user_id=user.id,
            at=utc(at),
            device_id=old.device_id,
            platform="ios" if ios else "android",
            token=rng.randbytes(32).hex() if ios else f"fcm{rng.randbytes(10).hex()}:{rng.randbytes(60).hex()}",
            app_version=old.app_version,
        )
    elif what < 0.025 and user.devices:
        yield DeviceRemoved(user_id=user.id, at=utc(at), device_id=user.devices[-1].device_id)
    elif what < 0.035:
        yield PreferencesChanged(user_id=user.id, at=utc(at), opted_out=(rng.choice(("practice", "streak_saver")),))
    elif what < 0.037:
        yield UserDeleted(user_id=user.id, at=utc(at))
