"""What each provider's turnstile is called: the provider, and the project whose quota it is."""

from __future__ import annotations

import json

from shared.settings import Settings


def names(settings: Settings) -> dict[str, str]:
    """Provider -> the full name of its turnstile, such as `apns:com.example.app`."""
    return {"apns": f"apns:{settings.apns_topic}", "fcm": f"fcm:{_project(settings)}", "smtp": "smtp"}


def rates(settings: Settings) -> dict[str, float]:
    """Provider -> sends a second at most, 0 for any number."""
    return {
        "apns": settings.apns_per_second,
        "fcm": settings.fcm_per_second,
        "smtp": settings.smtp_per_second,
    }


def _project(settings: Settings) -> str:
    """The Firebase project; empty where the credentials name none: then delivery does not start either."""
    try:
        found = json.loads(settings.fcm_credentials_file.read_text()) if settings.fcm_credentials_file else {}
    except (OSError, ValueError):
        return ""
    return str(found.get("project_id") or "") if isinstance(found, dict) else ""
