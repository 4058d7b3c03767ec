"""What is typed on call: requests that make sense, a pace that is kept, servers that never hang a command."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.backfill import KIND_NAMES, Request, request
from batch.backfill.pace import CancelledBackfillError, Pace
from batch.backfill.request import ranges
from batch.backfill.silent import hours, plans
from infra.oncall import complete
from infra.oncall.lag import DueLag, Lag, OutboxLag, TopicLag
from infra.oncall.probe import ask_all
from shared.gate import Claim
from shared.identity import SHARDS
from shared.settings import Settings

TEN = datetime(2026, 11, 21, 10, tzinfo=UTC)
NOW = (TEN + timedelta(days=1)).timestamp()


def asked(**more: object) -> Request:
    values = {"start": TEN, "end": TEN + timedelta(hours=2), "now": NOW, **more}
    return request(**values)  # type: ignore[arg-type]  # what a test names


def test_without_selectors_everything_is_asked_for() -> None:
    found = asked()
    assert (found.kinds, found.shards, found.zones) == (KIND_NAMES, tuple(range(SHARDS)), ())
    assert [kind.name for kind in found.due_kinds] == ["streak_saver", "practice", "abandoned_lesson"]


def test_the_same_request_has_the_same_key_however_it_is_typed() -> None:
    one = asked(kinds=["practice", "comeback"], shards="0-2,7", zones=["Europe/Lisbon", "Asia/Tokyo"])
    offset = TEN.astimezone(None)
    other = asked(
        start=offset, kinds=[" Comeback", "practice"], shards="7, 1-2,0", zones=["Asia/Tokyo", "Europe/Lisbon", ""]
    )
    assert one.key == other.key
    assert one.key != asked().key
    words = " ".join(one.arguments())
    assert words.startswith("--from 2026-11-21T10:00 --to 2026-11-21T12:00 --kind comeback --kind practice")
    assert words.endswith("--shards 0-2,7 --zones Asia/Tokyo,Europe/Lisbon")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"end": TEN}, "more than nothing"),
        ({"end": TEN + timedelta(days=8), "now": NOW * 2}, "a week at most"),
        ({"now": TEN.timestamp()}, "still to come"),
        ({"kinds": ["campaign"]}, "none of comeback"),
        ({"zones": ["../etc/passwd"]}, "no time zone"),
        ({"shards": "256"}, "0 to 255"),
        ({"shards": "7-3"}, "the lower one first"),
        ({"shards": "1-2-3"}, "no shard"),
        ({"shards": "9" * 5000}, "no shard"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(more: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        asked(**more)


@given(st.sets(st.integers(0, SHARDS - 1), min_size=1))
def test_shards_are_read_as_they_are_written(shards: set[int]) -> None:
    assert asked(shards=ranges(shards)).shards == tuple(sorted(shards))


def test_hours_are_those_of_the_schedule_and_have_its_names() -> None:
    half = asked(start=TEN + timedelta(minutes=30), end=TEN + timedelta(hours=2))
    assert [(hour.start.hour, hour.start.minute, hour.end.hour) for hour in hours(half)] == [(10, 30, 11), (11, 0, 12)]
    settings = Settings.model_validate({})
    assert [planned.run_id for planned in plans(asked(), settings)] == [
        "comeback/2026-11-21T10:00Z/2026-11-21T11:00Z",
        "comeback/2026-11-21T11:00Z/2026-11-21T12:00Z",
    ]
    (tokyo,) = plans(asked(start=TEN - timedelta(hours=1), zones=["Asia/Tokyo"]), settings, "backfill-7")
    assert tokyo.run_id == "comeback/2026-11-21T09:00Z/2026-11-21T10:00Z/backfill-7"
    assert {(slot.time_zone, slot.local_date) for slot in tokyo.slots} == {("Asia/Tokyo", date(2026, 11, 21))}


class Watch:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_a_rate_is_kept_from_page_to_page() -> None:
    watch = Watch()
    turns: list[float] = []

    async def between() -> None:
        turns.append(watch.now)

    pace = Pace(between, 10.0, watch.sleep, lambda: watch.now)
    for page in (20, 5, 5):
        await pace.turn()
        for _ in range(page):
            pace.note("practice", "sent")
        pace.note("practice", "practised")
        pace.page_done()
    await pace.turn()
    assert watch.now == pytest.approx(3.0)
    assert max(later - earlier for earlier, later in pairwise(turns)) <= 0.5, "it looks meanwhile"
    assert pace.counts == {("practice", "sent"): 30, ("practice", "practised"): 3}


async def test_half_a_page_is_never_left() -> None:
    async def between() -> None:
        raise CancelledBackfillError

    pace = Pace(between)
    pace.claimed([Claim.granted])
    await pace.turn()  # The second question of a page that has begun.
    pace.page_done()
    with pytest.raises(CancelledBackfillError):
        await pace.turn()
    pace.claimed([Claim.paused, Claim.practised])
    with pytest.raises(CancelledBackfillError):
        await pace.turn()


def test_a_server_that_never_answers_costs_its_time_and_no_more() -> None:
    began = time.monotonic()
    answers = ask_all(
        {
            "dead": lambda: asyncio.run(asyncio.sleep(60)),
            "fine": lambda: 7,
            "wrong": lambda: int("x"),
            "dead too": lambda: time.sleep(60),
        },
        seconds=0.2,
    )
    assert time.monotonic() - began < 30
    assert list(answers) == ["dead", "fine", "wrong", "dead too"]
    assert (answers["fine"].value, answers["fine"].trouble) == (7, "")
    assert answers["dead"].trouble == answers["dead too"].trouble == "no answer within 0.2 s"
    assert "invalid literal" in answers["wrong"].trouble


def test_what_is_behind_is_said_in_words() -> None:
    lag = Lag(
        topics=[
            TopicLag("stream", "activity.events", 2, 5_000, 61.0),
            TopicLag("delivery", "sends.urgent", 0, 1, 2.0),
            TopicLag("ledger", "outcomes", 1, 400, 3.0),
        ],
        due=[DueLag("practice", 12, 90.0), DueLag("streak_saver", 3, 1.0)],
        outbox=OutboxLag(4, 70.0),
    )
    assert lag.behind == [
        "stream has 5,000 messages of activity.events to read",
        "delivery has 1 message of sends.urgent to read, and no worker runs",
        "12 practice reminders due and not fired",
        "4 planned pages are not in Kafka: a stream worker finishes them",
    ]
    assert lag.writeback_seconds == 61.0
    assert Lag().writeback_seconds is None


def test_the_shell_completes_kinds_zones_and_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURNIA_TOPIC_PREFIX", "t1.")
    assert complete.kinds("s") == ["streak_saver"]
    assert complete.zones("europe/lis") == ["Europe/Lisbon"]
    assert complete.zones("Asia/Tokyo,Europe/Lis") == ["Asia/Tokyo,Europe/Lisbon"]
    assert complete.topics("t1.sends.u") == ["t1.sends.urgent"]
    assert complete.vias("") == ["local", "airflow"]
