"""FCM's OAuth access token, by google-auth from a service account.

google-auth goes by the machine's clock, as the token server does: how long a token lives is between those two.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import structlog
from google.auth.credentials import TokenState
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials

from stream.delivery.http2_handle import Trust
from stream.delivery.provider import CredentialsError, SetupError

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"

_log = structlog.get_logger(__name__)


class AccessToken:
    """The current token. Renewed in a thread, by one caller at a time, some minutes before it ends."""

    def __init__(self, file: Path, ca_file: Path | None, timeout: float) -> None:
        """`timeout`: seconds for one request to the token server. Raises `SetupError` for a file that is none."""
        try:
            self._credentials: Credentials = Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
                str(file), scopes=[SCOPE]
            )  # google-auth says it is typed, but leaves most functions without annotations
        except (OSError, ValueError, GoogleAuthError) as error:
            raise SetupError(f"SURNIA_FCM_CREDENTIALS_FILE {file} holds no service account: {error}") from None
        project_id = self._credentials.project_id
        if not project_id:
            raise SetupError(f"SURNIA_FCM_CREDENTIALS_FILE {file} names no project_id.")
        self.project_id: str = project_id
        # Said with every request, because the environment's REQUESTS_CA_BUNDLE goes before a session's setting.
        trust = Trust.of(ca_file)
        self._request = partial(Request(), timeout=timeout, verify=trust.file or trust.folder)
        self._renewing = asyncio.Lock()

    async def current(self) -> str:
        """The authorization header's value, `Bearer …`. Raises `CredentialsError`."""
        if self._state() is not TokenState.FRESH:
            async with self._renewing:
                if self._state() is not TokenState.FRESH:
                    await self._renew()
        return f"Bearer {self._credentials.token}"

    def reject(self, value: str) -> None:
        """FCM does not know this token any more: the next one is new."""
        if value == f"Bearer {self._credentials.token}":
            self._credentials.token = None

    def _state(self) -> TokenState:
        state: TokenState = self._credentials.token_state
        return state

    async def _renew(self) -> None:
        try:
            await asyncio.to_thread(self._credentials.refresh, self._request)
        except (GoogleAuthError, OSError) as error:
            if self._state() is not TokenState.INVALID:
                _log.warning("delivery.token_not_renewed", provider="fcm", error=str(error))
                return
            transient = isinstance(error, TransportError) or bool(getattr(error, "retryable", False))
            raise CredentialsError(f"FCM's access token could not be renewed: {error}", transient=transient) from error
