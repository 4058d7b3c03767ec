"""The ways to a device, as the settings order them."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import ValidationError

from shared.routes import Leg, Routes, without
from shared.settings import Settings
from shared.wire.sends import Send, Target

IPHONE = Target("i", "ios", "apns-token", "fcm-token")
OLD_IPHONE = Target("o", "ios", "apns-token")
PHONE = Target("p", "android", "phone-token")
ROUTES = Routes.of(Settings(smtp_host="mail"))


def test_an_iphone_goes_by_apns_then_by_fcm_where_it_has_a_token_for_that() -> None:
    assert ROUTES.legs(IPHONE) == [Leg("apns", "apns-token"), Leg("fcm", "fcm-token")]
    assert ROUTES.legs(OLD_IPHONE) == [Leg("apns", "apns-token")]
    assert ROUTES.legs(PHONE) == [Leg("fcm", "phone-token")]


def test_the_order_is_a_setting() -> None:
    routes = Routes.of(Settings(routes_ios="fcm,apns", routes_android="fcm", smtp_host="mail"))
    assert [leg.provider for leg in routes.legs(IPHONE)] == ["fcm", "apns"]
    assert routes.providers == {"apns", "fcm"}
    assert routes.email == frozenset()
    assert Routes.of(Settings(routes_ios="fcm")).providers == {"fcm"}


@pytest.mark.parametrize("routes", ["", "email", "email,apns", "apns,apns", "apns,", "sms"])
def test_an_order_that_makes_no_sense_is_refused(routes: str) -> None:
    with pytest.raises(ValidationError):
        Settings(routes_ios=routes)


def test_an_e_mail_goes_where_one_platform_allows_it_or_there_is_no_device() -> None:
    def of(*targets: Target) -> Send:
        return Send(7, "practice", date(2026, 1, 1), 1.0, 2.0, "UTC", "en", 0, 0, targets, email="a@example.com")

    routes = Routes.of(Settings(routes_ios="apns", smtp_host="mail"))
    assert [routes.address(of(*targets)) for targets in ((), (PHONE,), (IPHONE, PHONE), (IPHONE,))] == [
        *["a@example.com"] * 3,
        "",
    ]
    assert Routes.of(Settings()).address(of(PHONE)) == ""


def test_what_is_left_of_a_device_without_some_providers() -> None:
    assert without(IPHONE, ["apns"]) == Target("i", "ios", "", "fcm-token")
    assert without(IPHONE, ["fcm"]) == Target("i", "ios", "apns-token")
    assert without(IPHONE, ["fcm", "apns"]) is None
    assert without(PHONE, ["apns"]) == PHONE
    assert without(PHONE, ["fcm"]) is None
