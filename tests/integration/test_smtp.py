"""E-mails to a real mail server over STARTTLS: what arrives, what is refused, and what nobody can know."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import trustme

from shared.settings import Settings
from shared.templates import Catalogue, Text
from shared.unsubscribe import Unsubscribe
from shared.wire.sends import Send
from stream.delivery.errors import Action, Verdict
from stream.delivery.exchange import Answer, PushResponse, TransportError
from stream.delivery.http2_batch import EngineClosedError
from stream.delivery.provider import Push
from stream.delivery.smtp import Mail, SmtpEngine
from tests.integration.mailserver import LOGIN, MailServer, mail_settings, serving

NOW = 1_795_262_400.0
CATALOGUE = Catalogue.load()
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@pytest.fixture
def server() -> MailServer:
    return MailServer()


@pytest.fixture
def settings(server: MailServer, ca: trustme.CA, ca_file: Path) -> Iterator[Settings]:
    with serving(server, ca) as port:
        yield mail_settings(port, ca_file)


def push(user_id: int = 7, address: str = "ada@example.com", locale: str = "en") -> Push:
    send = Send(user_id, "practice", date(2026, 11, 21), NOW - 60, NOW + 600, "UTC", locale, 0, 0, (), email=address)
    text = CATALOGUE.render("practice", locale, user_id)
    return Push(send, str(send.send_id), text, address, NOW)


async def post(settings: Settings, *pushes: Push) -> tuple[list[Answer], list[Verdict | None]]:
    """Over an engine of its own; the answers, and what the provider reads out of them."""
    mail, engine = Mail(settings, CATALOGUE), SmtpEngine(settings)
    try:
        answers = await engine.send([mail.request(each, "") for each in pushes])
    finally:
        engine.close()
    return answers, [mail.verdict(each) if isinstance(each, PushResponse) else None for each in answers]


async def verdict_of(settings: Settings) -> Verdict:
    (answer,), (verdict,) = await post(settings, push())
    assert verdict, answer
    return verdict


async def test_a_send_arrives_as_text_and_html(settings: Settings, server: MailServer) -> None:
    (answer,), (verdict,) = await post(settings, push())
    assert verdict and verdict.action is Action.accepted
    assert 0 < answer.seconds < 5
    (mail,), (message,) = server.mails, server.messages()
    assert (mail.mail_from, mail.rcpt_tos) == ("reminders@surnia.example", ["ada@example.com"])
    text = push().text
    assert (message["Subject"], message["To"]) == (text.title, "ada@example.com")
    assert message["From"] == "Surnia <reminders@surnia.example>"
    assert message["Date"].datetime.timestamp() == NOW
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain and html
    assert text.body in plain.get_content()
    assert '<html lang="en" dir="ltr">' in html.get_content()
    assert server.sessions[0].ssl


async def test_a_message_has_the_id_of_its_send_however_often_it_is_sent(
    settings: Settings, server: MailServer
) -> None:
    await post(settings, push(), push())
    assert {message["Message-ID"] for message in server.messages()} == {f"<{push().send_id}@surnia.example>"}


async def test_one_click_takes_off_whoever_got_it(settings: Settings, server: MailServer) -> None:
    await post(settings, push(user_id=2**63 - 1))
    (message,) = server.messages()
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    raw = server.mails[0].content
    assert isinstance(raw, bytes)
    # Unfolded and unencoded, as it stands on the wire.
    found = re.search(
        rb"^List-Unsubscribe: <(https://app\.example\.com/unsubscribe\?t=([\w-]{32}))>\r$", raw, re.MULTILINE
    )
    assert found
    assert Unsubscribe(settings).user_of(found[2].decode()) == 2**63 - 1
    for part in ("plain", "html"):
        body = message.get_body((part,))
        assert body and found[1].decode() in body.get_content()


@pytest.mark.parametrize(("locale", "direction"), [("ar", "rtl"), ("ja", "ltr"), ("es-MX", "ltr")])
async def test_every_script_arrives_over_seven_bits(
    settings: Settings, server: MailServer, locale: str, direction: str
) -> None:
    await post(settings, push(locale=locale))
    (message,) = server.messages()
    raw = server.mails[0].content
    assert isinstance(raw, bytes) and raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert message["Subject"] == push(locale=locale).text.title
    html = message.get_body(("html",))
    assert html and f'dir="{direction}"' in html.get_content()
    assert push(locale=locale).text.body in html.get_content()


async def test_a_line_with_a_dot_alone_does_not_end_the_message(settings: Settings, server: MailServer) -> None:
    dotted = push()
    text = Text(dotted.text.title, "before\n.\n.after")
    await post(settings, Push(dotted.send, dotted.send_id, text, dotted.token, NOW))
    plain = server.messages()[0].get_body(("plain",))
    assert plain and plain.get_content().startswith("before\r\n.\r\n.after\r\n")


async def test_connections_are_kept_and_no_more_than_allowed(
    settings: Settings, server: MailServer, ca_file: Path
) -> None:
    two = mail_settings(settings.smtp_port, ca_file, smtp_connections=2)
    pushes = [push(n, f"user{n}@example.com") for n in range(1, 21)]
    server.slow = {f"DATA user{n}@example.com": 0.05 for n in (1, 2)}
    answers, _ = await post(two, *pushes)
    assert all(isinstance(answer, PushResponse) and answer.status == 250 for answer in answers)
    assert sorted(server.recipients()) == sorted(push.token for push in pushes)
    assert len(server.sessions) == server.busiest == 2


async def test_a_connection_that_the_server_ended_is_opened_again(settings: Settings, server: MailServer) -> None:
    mail, engine = Mail(settings, CATALOGUE), SmtpEngine(settings)
    request = mail.request(push(), "")
    await engine.send([request])
    server.answers["MAIL"] = ["421 4.4.2 idle for too long"]
    (answer,) = await engine.send([request])
    assert isinstance(answer, PushResponse) and answer.status == 250
    assert len(server.sessions) == 2
    engine.close()
    with pytest.raises(EngineClosedError):
        await engine.send([request])


async def test_a_connection_that_broke_while_it_was_idle_is_opened_again(
    settings: Settings, server: MailServer
) -> None:
    mail, engine = Mail(settings, CATALOGUE), SmtpEngine(settings)
    request = mail.request(push(), "")
    for n in range(1, 6):
        # Noticed before the next message or by it: either way that one goes over a new connection.
        (answer,) = await engine.send([request])
        assert isinstance(answer, PushResponse) and answer.status == 250
        server.hang_up()
        assert len(server.sessions) == len(server.mails) == n
    engine.close()


async def test_one_refusal_harms_none_of_the_others(settings: Settings, server: MailServer, ca_file: Path) -> None:
    one = mail_settings(settings.smtp_port, ca_file, smtp_connections=1)
    server.answers["RCPT b@example.com"] = ["550 5.1.1 no such user"]
    server.answers["DATA d@example.com"] = ["554 5.6.0 not nice"]
    _, verdicts = await post(one, *(push(n, f"{name}@example.com") for n, name in enumerate("abcde", 1)))
    assert [verdict and (verdict.action, verdict.reason) for verdict in verdicts] == [
        (Action.accepted, "accepted"),
        (Action.retire, "smtp_550_5_1_1"),
        (Action.accepted, "accepted"),
        (Action.fail, "smtp_554_5_6_0"),
        (Action.accepted, "accepted"),
    ]
    assert server.recipients() == ["a@example.com", "c@example.com", "e@example.com"]
    assert len(server.sessions) == 1


@pytest.mark.parametrize(
    ("command", "answer", "action", "reason"),
    [
        ("MAIL", "451 4.3.0 later", Action.retry, "smtp_sender_451_4_3_0"),
        ("MAIL", "421 4.7.0 too many of you", Action.retry, "smtp_sender_421_4_7_0"),
        ("MAIL", "553 5.1.8 who are you", Action.stop, "smtp_sender_553_5_1_8"),
        ("RCPT", "452 4.2.2 full", Action.retry, "smtp_452_4_2_2"),
        ("RCPT", "550 no", Action.fail, "smtp_550"),
        ("DATA", "550 5.7.26 not authenticated", Action.stop, "smtp_550_5_7_26"),
        ("DATA", "421 4.3.2 shutting down", Action.retry, "smtp_421_4_3_2"),
    ],
)
async def test_refusals_at_every_step(
    settings: Settings, server: MailServer, command: str, answer: str, action: Action, reason: str
) -> None:
    server.answers[command] = [answer]
    verdict = await verdict_of(settings)
    assert (verdict.action, verdict.reason) == (action, reason)
    assert not server.mails


async def test_a_message_that_nobody_answered_for_may_have_arrived(settings: Settings, server: MailServer) -> None:
    server.answers["DATA"] = ["hang up"]
    (answer,), _ = await post(settings, push())
    assert unanswered(answer)


async def test_the_deadline_counts_from_the_message_s_turn(
    settings: Settings, server: MailServer, ca_file: Path
) -> None:
    hasty = mail_settings(settings.smtp_port, ca_file, push_timeout_seconds=1.0, smtp_connections=1)
    server.slow = {"DATA a@example.com": 2.0, "RCPT b@example.com": 2.0}
    answers, _ = await post(hasty, *(push(n, f"{name}@example.com") for n, name in enumerate("abc", 1)))
    assert unanswered(answers[0])
    assert isinstance(answers[1], TransportError) and (answers[1].reason, answers[1].sent) == ("timeout", False)
    assert isinstance(answers[2], PushResponse) and answers[2].status == 250


def unanswered(answer: Answer) -> bool:
    return isinstance(answer, TransportError) and (answer.reason, answer.sent) == ("unanswered", True)


async def test_who_waits_and_is_cancelled_leaves_no_half_mail(
    settings: Settings, server: MailServer, ca_file: Path
) -> None:
    one = mail_settings(settings.smtp_port, ca_file, smtp_connections=1)
    mail, engine = Mail(one, CATALOGUE), SmtpEngine(one)
    server.slow["RCPT a@example.com"] = 0.5
    waiting = asyncio.ensure_future(engine.send([mail.request(push(1, "a@example.com"), "")]))
    async with asyncio.timeout(10):
        while not server.sessions:  # noqa: ASYNC110  # the server has a thread of its own
            await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (answer,) = await engine.send([mail.request(push(2, "b@example.com"), "")])
    assert isinstance(answer, PushResponse) and answer.status == 250
    assert server.recipients() == ["b@example.com"]
    engine.close()


async def lost(settings: Settings) -> TransportError:
    (answer,), _ = await post(settings, push())
    assert isinstance(answer, TransportError)
    assert not answer.sent
    return answer


async def test_a_certificate_of_another_name_gets_nothing(server: MailServer, ca: trustme.CA, ca_file: Path) -> None:
    with serving(server, ca, name="mail.other.example") as port:
        assert (await lost(mail_settings(port, ca_file))).reason == "tls"
    assert not server.sessions


async def test_a_certificate_that_nobody_vouches_for_gets_nothing(server: MailServer, ca_file: Path) -> None:
    with serving(server, trustme.CA()) as port:
        assert (
            await lost(mail_settings(port, ca_file, smtp_username=LOGIN[0], smtp_password=LOGIN[1]))
        ).reason == "tls"
    assert not (server.sessions or server.logins)


async def test_a_server_without_starttls_gets_neither_mail_nor_password(
    server: MailServer, ca: trustme.CA, ca_file: Path
) -> None:
    options: dict[str, Any] = {"tls_context": None, "require_starttls": False, "auth_require_tls": False}
    with serving(server, ca, authenticator=server.login, **options) as port:
        answer = await lost(mail_settings(port, ca_file, smtp_username=LOGIN[0], smtp_password=LOGIN[1]))
    assert answer.reason == "tls"
    assert not (server.mails or server.logins)


async def test_who_has_a_login_uses_it_once_a_connection(server: MailServer, ca: trustme.CA, ca_file: Path) -> None:
    with serving(server, ca, authenticator=server.login, auth_required=True) as port:
        known = mail_settings(port, ca_file, smtp_username=LOGIN[0], smtp_password=LOGIN[1], smtp_connections=1)
        _, verdicts = await post(known, push(1), push(2))
        assert [verdict and verdict.action for verdict in verdicts] == [Action.accepted] * 2
        assert server.logins == [LOGIN]
        verdict = await verdict_of(mail_settings(port, ca_file, smtp_username=LOGIN[0], smtp_password="wrong"))
        assert (verdict.action, verdict.reason) == (Action.stop, "smtp_auth_535_5_7_8")
        verdict = await verdict_of(mail_settings(port, ca_file))
        assert (verdict.action, verdict.reason) == (Action.stop, "smtp_sender_530_5_7_0")


async def test_a_login_that_the_server_knows_nothing_of_is_for_somebody_to_look_at(
    server: MailServer, ca: trustme.CA, ca_file: Path
) -> None:
    with serving(server, ca, auth_exclude_mechanism=["LOGIN", "PLAIN"]) as port:
        verdict = await verdict_of(mail_settings(port, ca_file, smtp_username=LOGIN[0], smtp_password=LOGIN[1]))
    assert (verdict.action, verdict.reason) == (Action.stop, "smtp_auth_502")


async def test_a_server_that_is_not_there_gets_it_later(ca_file: Path, unused_port: int) -> None:
    assert (await lost(mail_settings(unused_port, ca_file))).reason == "connect"
    nowhere = mail_settings(unused_port, ca_file, smtp_host="mail.surnia.invalid")
    assert (await lost(nowhere)).reason == "resolve"


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
