"""Messages by firebase-admin, which asks for its tokens by google-auth."""

from __future__ import annotations

from firebase_admin import messaging

FID = "dYZ-1234567890abcdefgh"


def message(fid: str = FID, send_id: str = "s1") -> messaging.Message:
    return messaging.Message(
        fid=fid,
        notification=messaging.Notification(title="Hi", body="Practise"),
        data={"send_id": send_id, "kind": "comeback"},
        android=messaging.AndroidConfig(collapse_key="c1", priority="high", ttl=3600),
    )
