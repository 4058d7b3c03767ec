"""What can be looked at here: settings that contradict one another, files, credentials; Airflow beside the stack."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from infra.airflow.services import Airflow
from infra.oncall.doctor.finding import Finding, broken, ok, warning
from shared.policy.window import QuietHours
from shared.settings import Settings

_CONNECT_SECONDS = 2.0


def configuration(settings: Settings) -> Iterator[Finding]:
    """Settings that are each valid and make no sense together."""
    part, fine = "Configuration", True
    quiet = QuietHours.of(settings)
    if quiet.start <= quiet.end:
        inside = quiet.start <= settings.send_hour < quiet.end
    else:
        inside = settings.send_hour >= quiet.start or settings.send_hour < quiet.end
    if inside:
        fine = False
        yield broken(
            part,
            f"SURNIA_SEND_HOUR ({settings.send_hour}) lies in quiet hours: no comeback would ever be shown",
            "Set SURNIA_SEND_HOUR to an open hour, such as 18",
        )
    if settings.clock_file:
        fine = False
        yield warning(
            part, f"a virtual clock is used ({settings.clock_file})", "Unset SURNIA_CLOCK_FILE, but for tests"
        )
    if min(settings.ladder_days) < settings.active_days:
        fine = False
        yield warning(
            part,
            f"the ladder begins on day {min(settings.ladder_days)}, before SURNIA_ACTIVE_DAYS "
            f"({settings.active_days}): both paths remind the same users",
            f"SURNIA_ACTIVE_DAYS={min(settings.ladder_days)}",
        )
    if fine:
        yield ok(part, "the settings are valid and agree")


def credentials(settings: Settings) -> Iterator[Finding]:
    """Of the providers. Nothing is sent."""
    yield from _apns(settings)
    yield from _fcm(settings)
    if settings.sends_email:
        wanted = {"SURNIA_EMAIL_FROM": settings.email_from, "SURNIA_UNSUBSCRIBE_URL": settings.unsubscribe_url}
        wanted["SURNIA_UNSUBSCRIBE_KEYS"] = settings.unsubscribe_keys.get_secret_value()
        missing = [name for name, value in wanted.items() if not value]
        if missing:
            yield broken("smtp", f"e-mails can't be made without {', '.join(missing)}", "Set them; see 'E-mail'")
        else:
            yield ok("smtp", "sender, unsubscribe address and keys are set")
    if settings.ca_file:
        yield from _bundle(settings.ca_file)


def _apns(settings: Settings) -> Iterator[Finding]:
    names = {"SURNIA_APNS_KEY_ID": settings.apns_key_id, "SURNIA_APNS_TEAM_ID": settings.apns_team_id}
    missing = [name for name, value in names.items() if not value]
    if not settings.apns_key_file:
        missing.insert(0, "SURNIA_APNS_KEY_FILE")
    if missing:
        yield broken("apns", f"no credentials: {', '.join(missing)} not set", "Set them, from Apple's developer page")
        return
    assert settings.apns_key_file
    yield from _pem("apns", settings.apns_key_file, "PRIVATE KEY", "SURNIA_APNS_KEY_FILE")


def _fcm(settings: Settings) -> Iterator[Finding]:
    import json

    path = settings.fcm_credentials_file
    if path is None:
        yield broken("fcm", "no credentials: SURNIA_FCM_CREDENTIALS_FILE is not set", "Set it, from Firebase's console")
        return
    try:
        account = json.loads(path.read_text())
        missing = [name for name in ("project_id", "client_email", "private_key") if name not in account]
    except (OSError, ValueError) as error:
        yield broken("fcm", f"{path} can't be read: {error}", _READABLE.format(path))
        return
    if missing:
        yield broken("fcm", f"{path} lacks {', '.join(missing)}", "Fetch the service account's file once more")
    else:
        yield ok("fcm", f"credentials of project {account['project_id']} are readable")


_READABLE = "chown, or `chmod u+r {}`, for whoever runs the workers"


def _pem(part: str, path: Path, what: str, setting: str) -> Iterator[Finding]:
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:
        yield broken(part, f"{path} can't be read: {error}", _READABLE.format(path))
        return
    if f"{what}-----" not in text:
        yield broken(part, f"{path} holds no {what.lower()}", f"Point {setting} at the file from the provider")
    else:
        yield ok(part, "its credentials are readable")


def _bundle(path: Path) -> Iterator[Finding]:
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        yield broken("TLS", f"{path} can't be used: {error}", "Point SURNIA_CA_FILE at a PEM bundle, or unset it")
    else:
        yield ok("TLS", f"{path} is readable")


def reachable(name: str, address: str, port: int | None = None) -> list[Finding]:
    """Whether a provider takes connections from here. Workers may run elsewhere, so it is a warning."""
    parsed = urlsplit(address if "//" in address else f"//{address}")
    host, number = parsed.hostname or "", port or parsed.port or 443
    try:
        socket.create_connection((host, number), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        return [
            warning(
                name, f"{host}:{number} takes no connection: {error}", f"Look at the firewall: nc -vz {host} {number}"
            )
        ]
    return [ok(name, f"{host}:{number} takes connections")]


def airflow(settings: Settings) -> list[Finding]:
    """The one beside the local stack. Another one is not known here."""
    service = Airflow(settings)
    if not service.record().processes:
        return [
            warning(
                "Airflow",
                "none runs beside the local stack: comebacks are planned by another one, or by nobody",
                "surnia airflow up (or look at the Airflow that you run elsewhere)",
            )
        ]
    found = service.status()
    if not found.healthy:
        return [broken("Airflow", f"it is {found.state}", "surnia airflow up")]
    if found.dag != "active":
        return [broken("Airflow", f"its hourly scan is {found.dag}: no comeback is planned", "surnia airflow up")]
    return [ok("Airflow", f"it runs at {found.url}, its hourly scan is switched on")]
