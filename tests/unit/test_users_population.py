"""The generated population: the same for the same seed, and shaped like the one DESIGN.md speaks of."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from batch.users.files import witnessed, write_csv
from batch.users.places import places
from batch.users.population import IOS_FCM_SHARE, GeneratedUser, Population, user_id
from infra.simulator.devices import Devices
from shared.policy.kinds import KINDS, PRACTICE_AFTER
from shared.policy.localtime import known_zones, local_date, local_time
from shared.policy.window import streak_saver_due
from shared.settings import GivenSettings, Settings

AS_OF = 1_793_750_400.0  # 2026-11-04T00:00:00Z, a few days after the clocks went back in Europe and North America
COUNT = 20_000


@pytest.fixture(scope="module")
def settings() -> Settings:
    return GivenSettings(_env_file=None)  # type: ignore[call-arg, unused-ignore]


@pytest.fixture(scope="module")
def people(settings: Settings) -> list[GeneratedUser]:
    return list(Population(COUNT, 7, AS_OF, settings).users())


def test_the_same_seed_gives_the_same_users(settings: Settings, people: list[GeneratedUser]) -> None:
    population = Population(COUNT, 7, AS_OF, settings)
    assert list(population.users()) == people
    assert list(population.users()) == people, "asked a second time"
    assert len(population) == COUNT


def test_another_seed_gives_other_users(settings: Settings, people: list[GeneratedUser]) -> None:
    others = list(Population(100, 8, AS_OF, settings).users())
    assert [user.last_event_at for user in others] != [user.last_event_at for user in people[:100]]


def test_full_chunks_do_not_depend_on_the_count(settings: Settings, people: list[GeneratedUser]) -> None:
    assert list(Population(10_000, 7, AS_OF, settings).users()) == people[:10_000]


def test_ids_are_unique_positive_and_exact_in_json() -> None:
    ids = {user_id(index) for index in range(1, 200_001)}
    assert len(ids) == 200_000
    assert min(ids) > 0 and max(ids) < 2**53


def test_no_two_devices_share_a_token_or_an_id(people: list[GeneratedUser]) -> None:
    devices = [device for user in people for device in user.devices]
    assert len({device.token for device in devices}) == len(devices)
    assert len({device[:2] for device in devices}) == len(devices)


def test_a_fifth_is_active_and_the_others_are_silent(people: list[GeneratedUser], settings: Settings) -> None:
    for user in people:
        silent_days = (local_date(AS_OF, user.time_zone) - user.last_active_date).days
        assert user.active == (0 <= silent_days < settings.active_days)
    assert 0.19 < sum(user.active for user in people) / COUNT < 0.21


def test_every_rung_of_the_ladder_is_hit(people: list[GeneratedUser], settings: Settings) -> None:
    days = Counter((local_date(AS_OF, user.time_zone) - user.last_active_date).days for user in people)
    assert all(days[rung] > 5 for rung in settings.ladder_days)
    assert max(days) > 300


def test_dates_are_the_local_dates_of_their_instants(people: list[GeneratedUser]) -> None:
    for user in people:
        assert local_date(user.last_event_at.timestamp(), user.time_zone) == user.last_active_date
        assert user.last_event_at.timestamp() <= AS_OF
        if user.last_practice_at:
            assert local_date(user.last_practice_at.timestamp(), user.time_zone) == user.last_practice_date
            assert user.last_practice_at <= user.last_event_at
        else:
            assert user.last_practice_date is None and user.streak == 0
        assert user.created_at < (user.last_practice_at or user.last_event_at)


def test_two_thirds_of_the_active_practised_yesterday(people: list[GeneratedUser]) -> None:
    active = [user for user in people if user.active]
    assert all(user.streak >= 1 for user in active)
    days = [(local_date(AS_OF, user.time_zone) - user.last_practice_date).days for user in active]  # type: ignore[operator]
    assert 0.60 < days.count(1) / len(days) < 0.70
    assert min(days) == 1 and max(days) == 6
    assert max(user.streak for user in active) > 365


def test_yesterdays_practice_is_due_again_within_a_day(people: list[GeneratedUser]) -> None:
    yesterday = [
        (user.last_practice_at.timestamp(), user.time_zone)
        for user in people
        if user.active
        and user.last_practice_at
        and user.last_practice_date == local_date(AS_OF, user.time_zone) - timedelta(days=1)
    ]
    due = [at for at, _ in yesterday if AS_OF < at + PRACTICE_AFTER <= AS_OF + 86_400]
    savers = [at for at, zone in yesterday if AS_OF < streak_saver_due(at, zone) <= AS_OF + 86_400]
    assert len(due) > 0.8 * len(yesterday)
    assert len(savers) > 0.9 * len(yesterday)


def test_people_practise_at_their_hour_and_mostly_in_the_evening(people: list[GeneratedUser]) -> None:
    hours: Counter[int] = Counter()
    for user in people:
        if user.active and user.last_practice_at:
            hours[user.practice_hour] += 1
            shown = local_time(user.last_practice_at.timestamp(), user.time_zone).hour
            # A day on which the clock is turned may show the hour beside it.
            assert (shown - user.practice_hour) % 24 in (0, 1, 23)
    assert hours[20] > 3 * hours[8] / 2 > 3 * hours[3]


def test_zones_locales_and_countries_are_real(people: list[GeneratedUser]) -> None:
    assert {place.time_zone for place in places().all} <= known_zones()
    locales = {user.country: user.locale for user in people}
    assert (locales["US"], locales["MX"], locales["JP"], locales["EG"], locales["BR"], locales["FR"]) == (
        "en",
        "es",
        "ja",
        "ar",
        "pt",
        "fr",
    )
    assert len({user.time_zone for user in people}) > 100
    assert 0.12 < sum(user.country == "CN" for user in people) / COUNT < 0.35, "cities weigh by population"


def test_devices_look_like_those_of_the_providers(people: list[GeneratedUser]) -> None:
    devices = Counter(len(user.devices) for user in people)
    assert set(devices) == {0, 1, 2}
    assert 0.02 < devices[0] / COUNT < 0.04
    for user in people:
        for device in user.devices:
            pattern = r"[0-9a-f]{64}" if device.platform == "ios" else r"[\w-]{22}:[\w-]{110,140}"
            assert re.fullmatch(pattern, device.token)
            assert device.user_id == user.id


def test_a_few_have_opted_out_of_known_kinds(people: list[GeneratedUser]) -> None:
    opted_out = [user.opted_out for user in people if user.opted_out]
    assert 0.02 < len(opted_out) / COUNT < 0.04
    assert max(opted_out) < 1 << len(KINDS)


def test_a_share_of_the_ios_devices_has_an_fcm_token_as_well(people: list[GeneratedUser]) -> None:
    ios = [device for user in people for device in user.devices if device.platform == "ios"]
    tokens = [device.fcm_token for device in ios if device.fcm_token]
    assert abs(len(tokens) / len(ios) - IOS_FCM_SHARE) < 0.02
    assert len(set(tokens)) == len(tokens)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}:APA91b[A-Za-z0-9_-]{122}", token) for token in tokens)
    assert not any(device.fcm_token for user in people for device in user.devices if device.platform == "android")


@pytest.mark.parametrize("active_days", [1, 2, 30])
def test_other_policies_are_kept_to(active_days: int) -> None:
    policy = GivenSettings(_env_file=None, active_days=active_days, ladder_days=(40, 500))  # type: ignore[call-arg, unused-ignore]
    for user in Population(2_000, 1, AS_OF, policy).users():
        silent_days = (local_date(AS_OF, user.time_zone) - user.last_active_date).days
        assert user.active == (0 <= silent_days < active_days)


def test_the_witness_says_where_each_device_is(settings: Settings, tmp_path: Path) -> None:
    population = list(Population(300, 7, AS_OF, settings))
    assert list(witnessed(population, tmp_path / "devices.csv")) == population
    lines = (tmp_path / "devices.csv").read_text().splitlines()
    found = [line.split(",") for line in lines]
    expected = []
    for user in population[0]:
        for device in user.devices:
            name = f"{user.id}-{device.device_id}" if device.fcm_token else ""
            expected += [[token, user.time_zone, name] for token in (device.token, device.fcm_token) if token]
    assert found == [["token", "time_zone", "device"], *expected]
    devices = Devices.read(tmp_path / "devices.csv")
    assert len(devices) == sum(len(user.devices) for user in population[0]) < len(expected)


def test_csv_files_hold_everybody(settings: Settings, tmp_path: Path) -> None:
    *_, counts = write_csv(Population(300, 7, AS_OF, settings), tmp_path)
    assert counts.users == 300 == len((tmp_path / "users.csv").read_text().splitlines()) - 1
    assert counts.devices == len((tmp_path / "devices.csv").read_text().splitlines()) - 1
