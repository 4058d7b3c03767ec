"""What `h2` needs to be told, and what it leaves to its user: a limit that is ours to enforce, bodies that wait."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from infra.simulator.reply import Reply

HEADERS_LIMIT: Final = 32 * 1024  # bytes, as granian is told


class _Unenforced(Settings):
    """h2 would end a connection with too many streams. Servers refuse the stream, and so does `Http2`."""

    @property
    def max_concurrent_streams(self) -> int:
        return 2**31

    @max_concurrent_streams.setter
    def max_concurrent_streams(self, value: int) -> None:
        self[SettingCodes.MAX_CONCURRENT_STREAMS] = value


def server_connection(streams: int) -> H2Connection:
    """A server's side of a connection whose first SETTINGS allow that many concurrent streams."""
    connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    first = {SettingCodes.MAX_CONCURRENT_STREAMS: streams, SettingCodes.MAX_HEADER_LIST_SIZE: HEADERS_LIMIT}
    connection.local_settings = _Unenforced(client=False, initial_values=first)
    connection.initiate_connection()
    return connection


def goaway(last: int, code: int = 0, reason: str = "") -> bytes:
    """A GOAWAY frame, by hand: after h2's own it would send nothing more. The reason is told as APNs does."""
    data = msgspec.json.encode({"reason": reason}) if reason else b""
    return bytes(GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=data).serialize())


class Answers:
    """Sends answers as far as the client's windows allow."""

    def __init__(self, connection: H2Connection) -> None:
        self._h2 = connection
        self._waiting: dict[int, deque[bytes]] = {}

    def send(self, stream: int, reply: Reply) -> bool:
        """Whether it is sent to its end."""
        headers = [(":status", str(reply.status)), *reply.headers, ("content-length", str(len(reply.body)))]
        self._h2.send_headers(stream, headers, end_stream=not reply.body)
        if not reply.body:
            return True
        self._waiting[stream] = deque([reply.body])
        return self._send_body(stream)

    def resume(self, stream: int) -> list[int]:
        """A window has grown, of all streams if it is 0; the streams whose answers are now sent."""
        streams = (stream,) if stream else tuple(self._waiting)
        return [waiting for waiting in streams if waiting in self._waiting and self._send_body(waiting)]

    def forget(self, stream: int) -> None:
        self._waiting.pop(stream, None)

    def _send_body(self, stream: int) -> bool:
        parts = self._waiting[stream]
        while parts:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if room <= 0:
                return False
            part = parts.popleft()
            if rest := part[room:]:
                parts.appendleft(rest)
            self._h2.send_data(stream, part[:room], end_stream=not parts)
        del self._waiting[stream]
        return True
