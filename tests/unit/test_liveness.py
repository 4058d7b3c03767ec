"""When a worker counts as stuck: with a clock of the test's own."""

from __future__ import annotations

import pytest

from shared.lag import Position
from stream.liveness import SHARING_SECONDS, Liveness, Look, Partition

DEADLINE = 100.0
FIRST: Partition = ("activity.events", 0)
SECOND: Partition = ("activity.events", 1)


class Worker:
    """What is seen of a worker, a look every ten seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.liveness = Liveness(DEADLINE)

    def look(
        self,
        seconds: float,
        positions: dict[Partition, Position] | None,
        *,
        every: float = 10.0,
        beats: bool = True,
        **more: object,
    ) -> list[str]:
        """What it is stuck at after so long in which all stayed the same."""
        end = self.now + seconds
        beat = self.now
        while self.now < end:
            self.now += every
            look = Look(self.now if beats else beat, positions=positions, **more)  # type: ignore[arg-type]
            found = self.liveness.see(self.now, look)
        return [each.what if each.what != "partition" else f"{each.topic}[{each.partition}]" for each in found]


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_a_backlog_that_does_not_move_is_stuck_after_the_deadline(worker: Worker) -> None:
    behind = {FIRST: Position(5, 9), SECOND: Position(3, 3)}
    assert worker.look(100, behind) == []
    assert worker.look(10, behind) == ["activity.events[0]"]
    (stuck,) = worker.liveness.stuck
    assert (stuck.committed, stuck.behind, stuck.seconds) == (5, 4, 100)
    assert str(stuck) == "activity.events[0] is 4 messages behind and has not moved from 5 for 100 s"


def test_it_is_over_when_the_backlog_moves(worker: Worker) -> None:
    worker.look(200, {FIRST: Position(5, 9)})
    assert worker.look(10, {FIRST: Position(6, 9)}) == []
    assert worker.look(100, {FIRST: Position(6, 50)}) == ["activity.events[0]"]


def test_who_moves_however_slowly_is_not_stuck(worker: Worker) -> None:
    for committed in range(20):
        assert worker.look(90, {FIRST: Position(committed, 1000)}) == []


def test_a_growing_backlog_is_no_movement(worker: Worker) -> None:
    found = [worker.look(10, {FIRST: Position(5, end)}) for end in range(9, 30)]
    assert found[-1] == ["activity.events[0]"]


def test_nothing_to_do_is_not_stuck(worker: Worker) -> None:
    assert worker.look(1000, {FIRST: Position(9, 9)}) == []
    # The clock of a backlog starts with the backlog.
    assert worker.look(100, {FIRST: Position(9, 10)}) == []


def test_what_is_left_behind_the_last_message_is_no_backlog(worker: Worker) -> None:
    assert worker.look(1000, {FIRST: Position(9, 10)}, idle=frozenset({FIRST})) == []


@pytest.mark.parametrize("positions", [{FIRST: Position(5, 9)}, None])
def test_who_waits_for_a_server_is_not_stuck_and_has_the_whole_deadline_after_it(
    worker: Worker, positions: dict[Partition, Position] | None
) -> None:
    behind = {FIRST: Position(5, 9)}
    worker.look(90, behind)
    assert worker.look(1000, positions, waiting=("gate",) if positions else ()) == []
    assert worker.look(90, behind) == []
    assert worker.look(20, behind) == ["activity.events[0]"]


def test_partitions_that_are_being_shared_out_are_not_stuck(worker: Worker) -> None:
    worker.look(90, {FIRST: Position(5, 9)})
    assert worker.look(50, {}, sharing=True) == []
    # Back again: a new owner has the whole deadline.
    assert worker.look(100, {FIRST: Position(5, 9)}) == []
    assert worker.look(10, {FIRST: Position(5, 9)}) == ["activity.events[0]"]


def test_sharing_out_has_a_deadline_too_unless_the_brokers_are_away(worker: Worker) -> None:
    assert worker.look(1000, None, sharing=True) == []
    # However short the deadline: a member that died is waited for first.
    assert worker.look(SHARING_SECONDS - 10, {}, sharing=True) == []
    assert worker.look(20, {}, sharing=True) == ["rebalance"]


def test_a_partition_that_left_is_forgotten(worker: Worker) -> None:
    worker.look(90, {FIRST: Position(5, 9)})
    worker.look(10, {SECOND: Position(0, 0)})
    assert worker.look(90, {FIRST: Position(5, 9)}) == []


def test_a_loop_that_does_not_come_round_is_stuck_whatever_it_said_last(worker: Worker) -> None:
    assert worker.look(90, {}, beats=False, waiting=("gate",)) == []
    assert worker.look(110, {}, beats=False, waiting=("gate",)) == ["event loop"]


def test_a_process_that_was_stopped_for_a_while_is_not_stuck(worker: Worker) -> None:
    behind = {FIRST: Position(5, 9)}
    worker.look(50, behind)
    # Neither its loop nor the watch has come round meanwhile.
    assert worker.look(3600, behind, every=3600, beats=False) == []
    assert worker.look(90, behind) == []
    assert worker.look(20, behind) == ["activity.events[0]"]
