"""Lines of what was handed over: a model that only counts, and the cases that it was learned from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stream.transport.positions import Line, Lines


@dataclass(eq=False)
class Message:
    first: int = 0
    end: int = 0
    size: int = 0
    acked: bool = False


def handed(line: Line, first: int, end: int, size: int = 0) -> Message:
    line.hand(message := Message(first, end, size), first, end, size)
    return message


def test_nothing_handed_over_is_nothing_to_commit() -> None:
    assert Line().settle() is None


def test_a_position_waits_for_all_that_is_ahead_of_it() -> None:
    line = Line()
    one, two, three = handed(line, 0, 10), handed(line, 10, 20), handed(line, 25, 30)
    two.acked = True
    assert line.settle() is None
    one.acked = True
    assert line.settle() == 20
    three.acked = True
    assert line.settle() == 30


def test_what_is_passed_counts_when_what_is_ahead_of_it_is_done() -> None:
    line = Line()
    message = handed(line, 0, 10)
    line.skip(15)
    assert line.settle() is None
    message.acked = True
    assert line.settle() == 15
    line.skip(20)
    assert line.settle() == 20


def test_offsets_that_go_back_are_the_position() -> None:
    # A topic that was deleted and made anew begins again at 0.
    line = Line()
    line.skip(1_000)
    message = handed(line, 0, 10)
    message.acked = True
    assert line.settle() == 10


def test_what_was_not_handed_over_after_all_holds_nothing_back() -> None:
    line = Line()
    one, two = handed(line, 0, 10, 10), handed(line, 10, 20, 10)
    line.withdraw(two)
    one.acked = True
    assert (line.settle(), line.size, line.first) == (10, 0, None)


def test_a_frozen_line_counts_no_more_acknowledgements() -> None:
    line = Line()
    one, two = handed(line, 0, 10), handed(line, 10, 20)
    one.acked = True
    line.settle()
    line.frozen = True
    two.acked = True
    assert (line.settle(), line.first) == (10, 10)


def test_a_replaced_line_is_not_its_partitions_any_more() -> None:
    lines = Lines()
    before = handed(lines.of("a"), 0, 10)
    lines.replace("a")
    before.acked = True
    assert lines.of("a").settle() is None


def test_lines_count_what_is_in_hand_of_all_partitions() -> None:
    lines = Lines()
    one, _, _ = (handed(lines.of(partition), 5, 10, 5) for partition in "abc")
    assert (lines.in_hand(), lines.firsts()) == (15, {"a": 5, "b": 5, "c": 5})
    one.acked = True
    assert (lines.in_hand(), lines.firsts()) == (10, {"b": 5, "c": 5})


@dataclass
class Model:
    """A partition as a list of all that there ever was, looked through from its start each time."""

    start: int
    entries: list[Message] = field(default_factory=list)

    @property
    def position(self) -> int | None:
        position = None
        for entry in self.entries:
            if not entry.acked:
                break
            position = entry.end
        return position


class Positions(RuleBasedStateMachine):
    """A consumer's life: hands over, passes gaps, acknowledges in any order, seeks, loses partitions."""

    partitions = st.sampled_from("ab")

    def __init__(self) -> None:
        super().__init__()
        self.lines = Lines()
        self.models = {partition: Model(0) for partition in "ab"}
        self.stale: list[Message] = []

    def _next(self, partition: str) -> int:
        entries = self.models[partition].entries
        return entries[-1].end if entries else self.models[partition].start

    @rule(partition=partitions, gap=st.integers(0, 5), length=st.integers(1, 5), behind=st.integers(0, 5))
    def hand(self, partition: str, gap: int, length: int, behind: int) -> None:
        first = self._next(partition) + gap
        message = handed(self.lines.of(partition), first, first + length + behind, length)
        self.models[partition].entries.append(message)

    @rule(partition=partitions, gap=st.integers(1, 5))
    def skip(self, partition: str, gap: int) -> None:
        end = self._next(partition) + gap
        self.lines.of(partition).skip(end)
        self.models[partition].entries.append(Message(end, end, acked=True))

    @precondition(lambda self: any(model.entries for model in self.models.values()))
    @rule(data=st.data())
    def acknowledge(self, data: Any) -> None:
        entries = [entry for model in self.models.values() for entry in model.entries]
        data.draw(st.sampled_from(entries)).acked = True

    @rule(partition=partitions, gap=st.integers(0, 5))
    def try_in_vain(self, partition: str, gap: int) -> None:
        line, first = self.lines.of(partition), self._next(partition) + gap
        line.withdraw(handed(line, first, first + 1, 1))

    @rule(partition=partitions, where=st.integers(0, 100))
    def read_from_elsewhere(self, partition: str, where: int) -> None:
        self.stale += self.models[partition].entries
        self.lines.replace(partition)
        self.models[partition] = Model(where)

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def acknowledge_too_late(self, data: Any) -> None:
        data.draw(st.sampled_from(self.stale)).acked = True

    @invariant()
    def positions_are_the_models(self) -> None:
        for partition, model in self.models.items():
            assert self.lines.of(partition).settle() == model.position

    @invariant()
    def in_hand_is_what_is_behind_the_position(self) -> None:
        waiting = [
            entry for model in self.models.values() for entry in model.entries[sum(1 for _ in self._done(model)) :]
        ]
        assert self.lines.in_hand() == sum(entry.size for entry in waiting)

    @staticmethod
    def _done(model: Model) -> list[Message]:
        undone = next((n for n, entry in enumerate(model.entries) if not entry.acked), len(model.entries))
        return model.entries[:undone]


TestPositions = Positions.TestCase
