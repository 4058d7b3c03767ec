"""Activity into PostgreSQL: what the tables say after batches of events, however often they come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from shared.clock import utc
from shared.settings import Settings
from shared.wire.events import decode_event
from stream.effects import effects_of
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.support import DAY, HOUR, IOS, TODAY, YESTERDAY, event, sql, tables

USER, OTHER = 4_242, 4_243
Deliver = Callable[..., Awaitable[None]]


@pytest.fixture
def deliver(runtime: Runtime) -> Deliver:
    """Hands one batch of raw events to the write-back."""

    async def deliver(*raw: bytes) -> None:
        events = [decode_event(message, NOON + 30 * DAY) for message in raw]
        zones = await runtime.writeback.zones([one.user_id for one in events])
        await runtime.writeback.write([effects_of(events, zones, "UTC")])

    return deliver


def lesson(at: float, user: int = USER, **more: object) -> bytes:
    return event("lesson_completed", user, at, **more)


def device(at: float, user: int = USER, token: str = IOS, name: str = "phone", **more: object) -> bytes:
    return event("device_registered", user, at, device_id=name, platform="ios", token=token, **more)


def streak(settings: Settings) -> tuple[Any, ...]:
    (row,) = sql(settings, "SELECT streak, last_practice_date, last_practice_at FROM users WHERE id = %s", USER)
    return row


def live(settings: Settings) -> list[tuple[Any, ...]]:
    """(user, device, token) of the devices that would be pushed to."""
    return sql(settings, "SELECT user_id, device_id, token FROM devices WHERE retired_at IS NULL ORDER BY 1, 2")


async def test_an_unknown_user_is_inserted_with_defaults(settings: Settings, deliver: Deliver) -> None:
    await deliver(event("app_opened", USER, NOON))
    (row,) = sql(
        settings,
        "SELECT id, time_zone, locale, last_event_at, last_active_date, last_practice_at, streak, opted_out FROM users",
    )
    assert row == (USER, "UTC", "en", utc(NOON), TODAY, None, 0, 0)


async def test_the_local_date_is_the_one_where_the_user_is(settings: Settings, deliver: Deliver) -> None:
    await deliver(
        lesson(NOON - 2 * HOUR, time_zone="Pacific/Kiritimati"),
        lesson(NOON - 2 * HOUR, OTHER, time_zone="Pacific/Pago_Pago"),
    )
    days = sql(settings, "SELECT last_active_date - last_practice_date, last_active_date FROM users ORDER BY id")
    assert [day for _, day in days] == [TODAY.replace(day=22), YESTERDAY]
    assert {difference for difference, _ in days} == {0}


STREAKS = {
    "the first lesson starts it": ([[0]], 1),
    "the same day again changes nothing": ([[0], [3]], 1),
    "the next day adds": ([[0], [24]], 2),
    "a gap starts over": ([[0], [24], [72]], 1),
    "a late lesson of an older date changes nothing": ([[0], [24], [-48]], 2),
    "several dates in one batch count each": ([[0, 24, 48]], 3),
    "several dates on top of a known one": ([[0], [24, 48, 72]], 4),
    "several dates in any order": ([[48, 0, 24]], 3),
    "a gap inside a batch starts over": ([[0, 24, 96]], 1),
    "late dates before a known one change nothing": ([[72], [0, 24, 48]], 1),
    "late and new dates in one batch": ([[24], [0, 48]], 2),
}


@pytest.mark.parametrize(("batches", "expected"), STREAKS.values(), ids=STREAKS)
async def test_a_streak_counts_local_dates_in_a_row(
    settings: Settings, deliver: Deliver, batches: list[list[int]], expected: int
) -> None:
    for hours in batches:
        await deliver(*(lesson(NOON + hour * HOUR) for hour in hours))
    last = max(hour for hours in batches for hour in hours)
    assert streak(settings) == (expected, utc(NOON + last * HOUR).date(), utc(NOON + last * HOUR))


async def test_one_users_many_dates_do_not_disturb_anothers_single_one(settings: Settings, deliver: Deliver) -> None:
    await deliver(lesson(NOON), lesson(NOON + DAY), lesson(NOON, OTHER), event("app_opened", 7, NOON))
    assert sql(settings, "SELECT id, streak FROM users ORDER BY id") == [(7, 0), (USER, 2), (OTHER, 1)]


async def test_events_without_a_zone_keep_the_one_that_is_known_and_count_in_it(
    settings: Settings, deliver: Deliver
) -> None:
    await deliver(event("app_opened", USER, NOON, time_zone="Asia/Tokyo"))
    await deliver(lesson(NOON + 4 * HOUR))  # 01:00 in Tokyo
    assert sql(settings, "SELECT time_zone, last_practice_date FROM users") == [("Asia/Tokyo", TODAY.replace(day=22))]
    await deliver(event("app_opened", USER, NOON + 5 * HOUR, time_zone="America/Lima"))
    assert sql(settings, "SELECT time_zone FROM users") == [("America/Lima",)]


async def test_a_guessed_zone_never_replaces_the_one_that_was_learned_meanwhile(
    settings: Settings, runtime: Runtime, deliver: Deliver
) -> None:
    await deliver(event("app_opened", USER, NOON, time_zone="Asia/Tokyo"))
    unaware = effects_of([decode_event(event("app_opened", USER, NOON), NOON)], {}, "UTC")
    await runtime.writeback.write([unaware])
    assert sql(settings, "SELECT time_zone FROM users") == [("Asia/Tokyo",)]


async def test_an_event_that_comes_late_never_makes_a_user_look_silent(settings: Settings, deliver: Deliver) -> None:
    await deliver(event("app_opened", USER, NOON))
    await deliver(event("app_opened", USER, NOON - 5 * DAY))
    assert sql(settings, "SELECT last_event_at, last_active_date FROM users") == [(utc(NOON), TODAY)]


async def test_preferences_change_only_what_they_name(settings: Settings, deliver: Deliver) -> None:
    query = "SELECT locale, opted_out FROM users"
    await deliver(event("preferences_changed", USER, NOON, opted_out=["practice", "comeback"], locale="pt-BR"))
    assert sql(settings, query) == [("pt-BR", 0b1001)]
    await deliver(event("preferences_changed", USER, NOON, locale="es"), event("app_opened", USER, NOON))
    assert sql(settings, query) == [("es", 0b1001)]
    await deliver(event("preferences_changed", USER, NOON, opted_out=[]))
    assert sql(settings, query) == [("es", 0)]


async def test_a_kind_named_twice_is_one_opt_out(settings: Settings, deliver: Deliver) -> None:
    await deliver(event("preferences_changed", USER, NOON, opted_out=["practice", "practice", "practice"]))
    assert sql(settings, "SELECT opted_out FROM users") == [(0b0001,)]


async def test_a_device_that_registers_again_has_its_new_token(settings: Settings, deliver: Deliver) -> None:
    await deliver(device(NOON, app_version="1.2"))
    await deliver(device(NOON + 1, token="cd" * 32))
    assert live(settings) == [(USER, "phone", "cd" * 32)]
    assert sql(settings, "SELECT app_version FROM devices") == [("1.2",)]
    await deliver(device(NOON - 1))
    assert live(settings) == [(USER, "phone", "cd" * 32)]


@pytest.mark.parametrize("together", [False, True], ids=["in two batches", "in one batch"])
async def test_a_token_that_moves_to_another_user_leaves_the_first(
    settings: Settings, deliver: Deliver, together: bool
) -> None:
    """Otherwise one phone would show the reminders of two people."""
    moves = [device(NOON), device(NOON + 60, OTHER)]
    for batch in [moves] if together else [[move] for move in moves]:
        await deliver(*batch)
    assert live(settings) == [(OTHER, "phone", IOS)]
    query = "SELECT retired_at, retired_reason FROM devices WHERE user_id = %s"
    assert sql(settings, query, USER) == [(utc(NOON + 60), "token_moved")]


async def test_an_older_registration_that_comes_late_does_not_take_the_token_back(
    settings: Settings, deliver: Deliver
) -> None:
    await deliver(device(NOON + 60, OTHER))
    await deliver(device(NOON))
    assert live(settings) == [(OTHER, "phone", IOS)]


async def test_a_registration_that_is_redelivered_does_not_take_the_token_back(
    settings: Settings, deliver: Deliver
) -> None:
    await deliver(device(NOON))
    await deliver(device(NOON + 60, OTHER))
    before = tables(settings)
    await deliver(device(NOON))
    assert tables(settings) == before


async def test_a_token_that_a_provider_retired_is_not_revived_by_a_redelivery(
    settings: Settings, deliver: Deliver
) -> None:
    await deliver(device(NOON))
    sql(settings, "UPDATE devices SET retired_at = %s, retired_reason = 'unregistered'", utc(NOON + 60))
    await deliver(device(NOON))
    assert live(settings) == []
    await deliver(device(NOON + 120))
    assert live(settings) == [(USER, "phone", IOS)]


async def test_two_users_who_swap_phones_keep_one_token_each(settings: Settings, deliver: Deliver) -> None:
    other = "cd" * 32
    await deliver(device(NOON), device(NOON, OTHER, token=other))
    await deliver(device(NOON + 60, token=other), device(NOON + 60, OTHER))
    assert live(settings) == [(USER, "phone", other), (OTHER, "phone", IOS)]


async def test_a_removed_device_is_retired_unless_it_registered_later(settings: Settings, deliver: Deliver) -> None:
    await deliver(device(NOON), device(NOON, name="tablet", token="cd" * 32))
    await deliver(event("device_removed", USER, NOON + 1, device_id="phone"))
    await deliver(event("device_removed", USER, NOON - 1, device_id="tablet"))
    assert live(settings) == [(USER, "tablet", "cd" * 32)]
    assert sql(settings, "SELECT retired_reason FROM devices WHERE retired_at IS NOT NULL") == [("removed",)]
    await deliver(device(NOON + 2))
    assert [row[1] for row in live(settings)] == ["phone", "tablet"]


async def test_batches_that_are_written_together_count_one_after_the_other(
    settings: Settings, runtime: Runtime
) -> None:
    said = [lesson(NOON - 2 * DAY), lesson(NOON - DAY), lesson(NOON), device(NOON), lesson(NOON, OTHER)]
    said += [lesson(NOON + 60, OTHER, time_zone="Asia/Tokyo"), lesson(NOON + 120, OTHER, time_zone="UTC")]
    batches = [effects_of([decode_event(each, NOON)], {}, "UTC") for each in said]
    # A row each, but two more for who was in two other places meanwhile.
    assert await runtime.writeback.write(batches) == {"users": 4, "devices": 1, "removed": 0}
    assert sql(settings, "SELECT id, streak, time_zone FROM users ORDER BY id") == [(USER, 3, "UTC"), (OTHER, 1, "UTC")]
    assert len(live(settings)) == 1


async def test_what_could_not_be_written_is_written_the_next_time(settings: Settings, runtime: Runtime) -> None:
    batch = [effects_of([decode_event(lesson(NOON), NOON)], {}, "UTC")]
    sql(settings, "ALTER TABLE users RENAME TO elsewhere")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await runtime.writeback.write(batch)
    sql(settings, "ALTER TABLE elsewhere RENAME TO users")
    assert (await runtime.writeback.write(batch))["users"] == 1
    assert (await runtime.writeback.write(batch))["users"] == 0
    assert sql(settings, "SELECT id, streak FROM users") == [(USER, 1)]


async def test_a_batch_that_comes_again_changes_nothing(settings: Settings, deliver: Deliver) -> None:
    await deliver(lesson(NOON - DAY), device(NOON - DAY, OTHER), lesson(NOON, 9))
    batch = [
        lesson(NOON - HOUR, time_zone="Asia/Tokyo"), lesson(NOON), device(NOON),
        device(NOON, name="tablet", token="ef" * 32, fcm_token=FCM), device(NOON, 8, token="12" * 32, fcm_token=FCM),
        event("device_removed", USER, NOON + 1, device_id="tablet"), event("app_opened", OTHER, NOON, locale="es"),
        event("preferences_changed", OTHER, NOON, opted_out=["practice"]), event("user_deleted", 9, NOON),
    ]  # fmt: skip
    await deliver(*batch)
    before = tables(settings)
    assert before["users"] and before["devices"]
    await deliver(*batch)
    assert tables(settings) == before


FCM, OTHER_FCM = "dYZ:APA91b-one", "dYZ:APA91b-two"
"""FCM tokens of iOS devices."""


def fcm_tokens(settings: Settings) -> list[tuple[Any, ...]]:
    """(user, FCM token that is in use, or why it is not) of every device that would be pushed to."""
    query = (
        "SELECT user_id, coalesce(fcm_retired_reason, fcm_token) FROM devices WHERE retired_at IS NULL ORDER BY 1, 2"
    )
    return sql(settings, query)


async def test_an_fcm_token_is_kept_until_another_one_is_registered(settings: Settings, deliver: Deliver) -> None:
    await deliver(device(NOON, fcm_token=FCM))
    await deliver(device(NOON + 1, token="cd" * 32))
    assert fcm_tokens(settings) == [(USER, FCM)]
    assert live(settings) == [(USER, "phone", "cd" * 32)]
    await deliver(device(NOON + 2, fcm_token=OTHER_FCM))
    await deliver(device(NOON - 2, fcm_token=FCM))
    assert fcm_tokens(settings) == [(USER, OTHER_FCM)]
    await deliver(event("device_removed", USER, NOON + 3, device_id="phone"))
    await deliver(device(NOON + 4))
    assert fcm_tokens(settings) == [(USER, OTHER_FCM)]
    await deliver(event("device_registered", USER, NOON + 5, device_id="phone", platform="android", token="f" * 20))
    await deliver(device(NOON + 6))
    assert fcm_tokens(settings) == [(USER, None)]


async def test_a_device_that_was_an_android_within_the_batch_keeps_none(settings: Settings, deliver: Deliver) -> None:
    android = event("device_registered", USER, NOON + 1, device_id="phone", platform="android", token="f" * 20)
    await deliver(device(NOON, fcm_token=FCM))
    await deliver(android, device(NOON + 2))
    assert fcm_tokens(settings) == [(USER, None)]


async def test_a_removal_in_the_same_batch_does_not_lose_the_fcm_token(settings: Settings, deliver: Deliver) -> None:
    await deliver(device(NOON, fcm_token=FCM), event("device_removed", USER, NOON + 1, device_id="phone"))
    assert live(settings) == []
    await deliver(device(NOON + 2))
    assert fcm_tokens(settings) == [(USER, FCM)]


@pytest.mark.parametrize("together", [False, True], ids=["in two batches", "in one batch"])
async def test_an_fcm_token_that_moves_leaves_the_older_device_with_its_apns_token(
    settings: Settings, deliver: Deliver, together: bool
) -> None:
    moves = [device(NOON, fcm_token=FCM), device(NOON + 60, OTHER, token="cd" * 32, fcm_token=FCM)]
    for batch in [moves] if together else [[move] for move in moves]:
        await deliver(*batch)
    assert fcm_tokens(settings) == [(USER, "token_moved"), (OTHER, FCM)]
    assert live(settings) == [(USER, "phone", IOS), (OTHER, "phone", "cd" * 32)]
    query = "SELECT fcm_retired_at FROM devices WHERE user_id = %s"
    assert sql(settings, query, USER) == [(utc(NOON + 60),)]
    before = tables(settings)
    await deliver(*moves)
    assert tables(settings) == before
    await deliver(device(NOON + 90))
    assert fcm_tokens(settings) == [(USER, "token_moved"), (OTHER, FCM)]
    await deliver(device(NOON + 120, fcm_token=FCM))
    assert fcm_tokens(settings) == [(USER, FCM), (OTHER, "token_moved")]


async def test_who_lost_the_phone_does_not_come_back_with_its_fcm_token(settings: Settings, deliver: Deliver) -> None:
    await deliver(device(NOON, fcm_token=FCM))
    await deliver(device(NOON + 60, OTHER, fcm_token=FCM))
    assert live(settings) == [(OTHER, "phone", IOS)]
    await deliver(device(NOON + 90, token="cd" * 32))
    assert fcm_tokens(settings) == [(USER, "token_moved"), (OTHER, FCM)]


async def test_two_users_who_swap_phones_swap_the_fcm_tokens(settings: Settings, deliver: Deliver) -> None:
    other = "cd" * 32
    await deliver(device(NOON, fcm_token=FCM), device(NOON, OTHER, token=other, fcm_token=OTHER_FCM))
    await deliver(device(NOON + 60, token=other, fcm_token=OTHER_FCM), device(NOON + 60, OTHER, fcm_token=FCM))
    assert fcm_tokens(settings) == [(USER, OTHER_FCM), (OTHER, FCM)]


@pytest.mark.parametrize(
    ("at", "fcm_token", "kept"),
    [(NOON - 10, FCM, True), (NOON + 1, FCM, False), (NOON + 1, None, True), (NOON - 1, OTHER_FCM, False)],
    ids=["redelivered", "registered again since", "left out", "another one"],
)
async def test_a_retired_fcm_token_comes_back_when_it_is_registered_since(
    settings: Settings, deliver: Deliver, at: float, fcm_token: str | None, kept: bool
) -> None:
    await deliver(device(NOON - 10, fcm_token=FCM))
    sql(settings, "UPDATE devices SET fcm_retired_at = %s, fcm_retired_reason = 'unregistered'", utc(NOON))
    await deliver(device(at, fcm_token=fcm_token))
    assert fcm_tokens(settings) == [(USER, "unregistered" if kept else fcm_token)]
    assert live(settings) == [(USER, "phone", IOS)]


def prefer(at: float, **more: object) -> bytes:
    return event("preferences_changed", USER, at, **more)


def address(settings: Settings) -> tuple[Any, ...]:
    (row,) = sql(settings, "SELECT email, email_opted_out, email_retired_at, email_retired_reason FROM users")
    return row


async def test_an_address_is_set_kept_and_taken_away(settings: Settings, deliver: Deliver) -> None:
    await deliver(prefer(NOON, email="ada@example.com"))
    await deliver(event("app_opened", USER, NOON + 1), prefer(NOON + 1, locale="pt-BR"))
    assert address(settings) == ("ada@example.com", False, None, None)
    await deliver(prefer(NOON + 2, email="grace@example.com"), prefer(NOON + 2, email="ada@example.org"))
    assert address(settings)[0] == "ada@example.org"
    await deliver(prefer(NOON + 3, email=""))
    assert address(settings)[0] is None


async def test_who_wants_no_e_mail_keeps_the_address_for_another_day(settings: Settings, deliver: Deliver) -> None:
    await deliver(prefer(NOON, email="ada@example.com", email_opted_out=True))
    await deliver(prefer(NOON, opted_out=["practice"]))
    assert address(settings)[:2] == ("ada@example.com", True)
    await deliver(prefer(NOON, email_opted_out=False))
    assert address(settings)[:2] == ("ada@example.com", False)


@pytest.mark.parametrize(
    ("at", "email", "kept"),
    [(NOON - 1, "ada@example.com", True), (NOON + 1, "ada@example.com", False), (NOON - 1, "ada@example.org", False)],
    ids=["told again what was known", "set again since", "another address"],
)
async def test_a_retired_address_comes_back_when_it_is_set_since(
    settings: Settings, deliver: Deliver, at: float, email: str, kept: bool
) -> None:
    await deliver(prefer(NOON - 10, email="ada@example.com"))
    sql(settings, "UPDATE users SET email_retired_at = %s, email_retired_reason = 'smtp_550_5_1_1'", utc(NOON))
    await deliver(event("app_opened", USER, NOON + 5))
    assert address(settings)[2:] == (utc(NOON), "smtp_550_5_1_1")
    await deliver(event("app_opened", USER, NOON + 5), prefer(at, email=email))
    assert address(settings) == (email, False, *((utc(NOON), "smtp_550_5_1_1") if kept else (None, None)))
