"""The controller of a scan's pace, whatever the database does; and what is made of a replica's positions."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from batch.pressure.controller import LONGEST_PAUSE, Bounds, Controller
from batch.pressure.lag import ReplicaLag
from batch.pressure.pace import LOOK_SECONDS, Adaptive

BOUNDS = Bounds(1000, 0.25, 10.0)
LARGEST = st.integers(10, 10_000)

slow = st.tuples(st.just("page"), st.floats(0.2501, 100.0))
quick = st.tuples(st.just("page"), st.floats(0.0, 0.25))
behind = st.tuples(st.just("lag"), st.floats(10.01, 1e6))
near = st.tuples(st.just("lag"), st.floats(0.0, 10.0))
ended = st.tuples(st.just("cancelled"), st.just(0.0))
HISTORY = st.lists(st.one_of(slow, quick, behind, near, ended), max_size=200)


def live(controller: Controller, history: Sequence[tuple[str, float]]) -> None:
    for what, seconds in history:
        if what == "page":
            controller.page(seconds, controller.page_size)
        elif what == "lag":
            controller.lag(seconds)
        else:
            controller.cancelled()


@given(LARGEST, HISTORY)
def test_page_and_pause_stay_within_their_bounds_whatever_happens(
    largest: int, history: list[tuple[str, float]]
) -> None:
    controller = Controller(BOUNDS._replace(largest=largest))
    for event in history:
        live(controller, [event])
        assert min(50, largest) <= controller.page_size <= largest
        assert 0.0 <= controller.pause <= LONGEST_PAUSE


@given(HISTORY, st.one_of(slow, behind, ended))
def test_trouble_halves_the_page_and_makes_the_rest_longer(
    history: list[tuple[str, float]], trouble: tuple[str, float]
) -> None:
    controller = Controller(BOUNDS)
    live(controller, history)
    size, pause = controller.page_size, controller.pause
    live(controller, [trouble])
    assert controller.page_size == 50 or controller.page_size <= size // 2 + 1
    assert controller.pause == LONGEST_PAUSE or controller.pause >= 2 * pause > 0 or (not pause and controller.pause)


@given(HISTORY)
def test_it_recovers_from_whatever_was_within_two_dozen_quick_pages(history: list[tuple[str, float]]) -> None:
    controller = Controller(BOUNDS)
    live(controller, history)
    live(controller, [("page", 0.1)] * 24)
    assert controller.at_full_speed


@given(st.floats(0.00002, 0.004), HISTORY)
def test_it_converges_to_pages_that_the_database_reads_in_good_time(
    seconds_a_user: float, history: list[tuple[str, float]]
) -> None:
    """A database that needs so long for each user: pages come to lie around the size that takes just long enough."""
    controller = Controller(BOUNDS)
    live(controller, history)
    sizes = []
    for n in range(400):
        if n >= 200:
            sizes.append(controller.page_size)
        controller.page(controller.page_size * seconds_a_user, controller.page_size)
    fits = min(BOUNDS.largest, max(50, 0.25 / seconds_a_user))
    step = 60
    assert max(sizes) <= fits + step
    # As in TCP: between what fits and half of it, once a step has gone beyond.
    assert min(sizes) >= min(fits, max(50, fits / 2)) - step


@given(st.integers(2, 4))
def test_several_on_one_database_come_to_nearly_equal_pages(scans: int) -> None:
    """Its time for a page grows with what all of them read at once."""
    controllers = [Controller(BOUNDS) for _ in range(scans)]
    for controller in controllers[1:]:
        live(controller, [("cancelled", 0.0)] * 3)
    total = [0] * scans
    for n in range(600):
        seconds = sum(controller.page_size for controller in controllers) * 0.0004
        for place, controller in enumerate(controllers):
            total[place] += controller.page_size if n >= 300 else 0
            controller.page(seconds, controller.page_size)
    assert max(total) <= 1.25 * min(total)


def test_a_page_that_is_not_full_does_not_make_the_next_one_larger() -> None:
    controller = Controller(BOUNDS)
    size = controller.page_size
    controller.page(0.001, size - 1)
    assert controller.page_size == size
    controller.page(0.001, size)
    assert controller.page_size > size


async def test_the_pace_says_once_that_it_slows_down_and_once_that_it_is_over() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    pace = Adaptive(Controller(BOUNDS), "eu1", sleep)
    with capture_logs() as logs:
        for seconds in [0.1, 0.3, 0.3, 0.3] + [0.1] * 20:
            size = await pace.page_size()
            await pace.report(seconds, size)
    assert [line["event"] for line in logs] == ["the scan slows down", "the scan needs no more rests"]
    assert (logs[0]["database"], logs[0]["why"], logs[0]["page_seconds"]) == ("eu1", "its pages take long", 0.3)
    assert waits == [0.05, 0.1, 0.2], "and as short as these, they end with the first page in good time"
    assert pace.pages == 24


async def test_the_pace_looks_at_the_lag_once_a_second() -> None:
    now = [0.0]
    looks: list[float] = []

    class Lag:
        async def seconds(self) -> float:
            looks.append(now[0])
            return 11.0

    async def sleep(seconds: float) -> None:
        pass

    controller = Controller(BOUNDS)
    pace = Adaptive(controller, "eu1", sleep, None, Lag(), lambda: now[0])  # type: ignore[arg-type]  # as far as it is asked
    for n in range(30):
        now[0] = n * LOOK_SECONDS / 10
        await pace.page_size()
    assert [round(at, 3) for at in looks] == [1.0, 2.0]
    assert controller.slowed == 2


class Server:
    """Answers one statement."""

    def __init__(self, row: tuple[Any, ...] | None) -> None:
        self.row = row

    async def execute(self, _: str) -> Any:
        async def fetchone() -> Any:
            return self.row

        return SimpleNamespace(fetchone=fetchone)


class Pair:
    """A primary, a replica, and the clock between two looks."""

    def __init__(self) -> None:
        self.primary, self.replica, self.now = Server((0,)), Server((0, None)), 0.0
        self.lag = ReplicaLag(self.primary, self.replica, lambda: self.now)  # type: ignore[arg-type]  # as far as asked

    async def look(self, at: float, written: int, replayed: int | None, age: float | None) -> float:
        self.now, self.primary.row = at, (written,)
        self.replica.row = None if replayed is None else (replayed, age)
        return await self.lag.seconds()


async def test_an_idle_primary_is_no_lag_however_old_the_last_transaction_is() -> None:
    pair = Pair()
    assert [await pair.look(at, 100, 100, 3600.0 + at) for at in range(5)] == [0.0] * 5


async def test_the_first_transaction_after_hours_is_no_lag_of_hours() -> None:
    pair = Pair()
    await pair.look(0, 100, 100, 3600)
    assert await pair.look(1, 120, 100, 3601) == 0.0, "it was written a moment ago"
    assert await pair.look(2, 130, 125, 0.5) == 0.0, "and has been replayed since"


async def test_a_replica_that_does_not_come_along_is_as_far_behind_as_its_last_transaction() -> None:
    pair = Pair()
    await pair.look(0, 200, 100, 30)
    assert await pair.look(1, 300, 150, 31) == 31
    assert await pair.look(2, 400, 150, 32) == 32
    assert await pair.look(3, 400, 199, None) == 3, "and no less than since it was first seen to be"
    assert await pair.look(4, 400, 400, 0.0) == 0.0


async def test_what_is_no_replica_is_never_behind() -> None:
    pair = Pair()
    assert await pair.look(0, 100, None, None) == 0.0
    assert await pair.look(1, 200, None, None) == 0.0
