"""What goes into the log: everything of ours, and of a chatty library each message once in a while."""

from __future__ import annotations

import logging

import pytest

from shared.logs import Throttle

SECONDS = 30


class Log:
    """A logger's handler with the throttle, a clock to turn, and the lines that came through."""

    def __init__(self) -> None:
        self.now = 0.0
        self.throttle = Throttle(lambda: self.now)

    def say(self, name: str, template: object, *arguments: object, level: int = logging.ERROR) -> str | None:
        record = logging.LogRecord(name, level, __file__, 1, template, arguments, None)
        return record.getMessage() if self.throttle.filter(record) else None


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.parametrize("name", ["aiokafka.conn", "aiokafka", "faust.transport", "mode", "psycopg.pool"])
def test_a_librarys_message_goes_through_once_in_a_while(log: Log, name: str) -> None:
    assert log.say(name, "no node %s", 1) == "no node 1"
    for n in range(412):
        log.now = n / 20
        assert log.say(name, "no node %s", n) is None
    log.now = SECONDS
    assert log.say(name, "no node %s", 7) == "no node 7 … and 412 more like it in 30 s"
    assert log.say(name, "no node %s", 8) is None


def test_what_was_not_repeated_meanwhile_goes_through_as_it_is(log: Log) -> None:
    log.say("aiokafka", "lost")
    log.now = SECONDS
    assert log.say("aiokafka", "lost") == "lost"


def test_how_long_it_took_is_said_as_it_was(log: Log) -> None:
    log.say("aiokafka", "lost")
    log.say("aiokafka", "lost")
    log.now = 3_600
    assert log.say("aiokafka", "lost") == "lost … and 1 more like it in 3600 s"


def test_one_message_does_not_hold_back_another(log: Log) -> None:
    assert log.say("aiokafka", "no node %s", 1)
    assert log.say("aiokafka", "no coordinator %s", 1)
    assert log.say("aiokafka.consumer", "no node %s", 1)


@pytest.mark.parametrize("name", ["shared.patience", "stream.app", "surnia", "root", "faustian", "airflow.task"])
def test_ours_and_others_are_never_held_back(log: Log, name: str) -> None:
    for level in (logging.INFO, logging.ERROR):
        assert [log.say(name, "again", level=level) for _ in range(3)] == ["again"] * 3


def test_messages_that_are_all_different_do_not_fill_the_memory(log: Log) -> None:
    for n in range(5_000):
        assert log.say("aiokafka", f"{n}: " + "x" * 10_000)
    assert len(log.throttle._seen) <= 500
    assert max(len(template) for _, template in log.throttle._seen) <= 200


def test_a_message_that_floods_is_not_forgotten_for_others(log: Log) -> None:
    log.say("aiokafka", "flood")
    for n in range(5_000):
        log.say("aiokafka", f"{n}")
        assert log.say("aiokafka", "flood") is None


def test_what_is_no_text_can_be_said_too(log: Log) -> None:
    error = ValueError("50 %s")
    assert log.say("faust", error) == "50 %s"
    assert log.say("faust", error) is None
    log.now = SECONDS
    assert log.say("faust", error) == "50 %s … and 1 more like it in 30 s"
