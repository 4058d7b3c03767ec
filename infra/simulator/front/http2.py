"""HTTP/2 on one connection, with a hand on its frames."""

from __future__ import annotations

import asyncio

from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from infra.simulator.faults.transport import REFUSED_STREAM, Drop, Goaway, OfRequest, Reset, Stall
from infra.simulator.front.counts import Counts
from infra.simulator.front.h2_server import Answers, goaway, server_connection
from infra.simulator.front.request import Request, RequestScope
from infra.simulator.front.streams import StreamLimit
from infra.simulator.front.tls import Connection
from infra.simulator.reply import Reply
from infra.simulator.wire import Application


class Http2:
    """Speaks HTTP/2 and calls the application."""

    def __init__(self, connection: Connection, application: Application, limit: StreamLimit, counts: Counts) -> None:
        self._connection = connection
        self._application = application
        self._counts = counts
        self.limit = limit
        self._live: dict[int, Request] = {}  # not answered yet
        self._processed = 0  # the highest stream that the application has finished
        self._last: int | None = None  # what the GOAWAY named
        self._flushing = False
        self._over = False  # nothing can be sent any more
        self._h2 = server_connection(limit.wanted)
        self._answers = Answers(self._h2)
        self._flush()

    def received(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(data):
                self._handle(event)
        except (ProtocolError, UnicodeDecodeError):
            self._flush()  # h2 has written the GOAWAY
            self.lost()
            self._connection.close()
            return
        self.tell()

    def lost(self) -> None:
        """The client is gone; what the application does for it goes on, as it would at a provider."""
        self._over = True
        for request in self._live.values():
            request.end()
        self._live.clear()

    def leave(self) -> None:
        """GOAWAY, then the answers that are under way, then the end."""
        self._go_away(max(self._live, default=self._processed))
        self._close_if_done()

    def tell(self) -> None:
        """Announce another stream limit, if rules or requests have changed it."""
        self._announce()
        self._flush()

    # What the client sends.

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._open(event)
            case DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if request := self._live.get(event.stream_id):
                    request.feed(event.data)
            case StreamEnded() | StreamReset():
                if request := self._live.get(event.stream_id):
                    request.end()
                if isinstance(event, StreamReset):
                    self._forget(event.stream_id)
            case WindowUpdated():
                for stream in self._answers.resume(event.stream_id):
                    self._forget(stream)
            case SettingsAcknowledged():
                self.limit.acknowledged()
            case ConnectionTerminated():
                self.lost()
                self._connection.close()

    def _open(self, event: RequestReceived) -> None:
        stream = event.stream_id
        if self._last is not None and stream > self._last:
            return  # not processed, as the GOAWAY said
        if len(self._live) >= self.limit.enforced:
            self._counts.streams_refused += 1
            self._h2.reset_stream(stream, REFUSED_STREAM)
            return
        self.limit.requested()
        scope = RequestScope.of_http2([(str(name), str(value)) for name, value in event.headers])
        request = self._live[stream] = Request(stream, scope, self)
        self._counts.most_streams = max(self._counts.most_streams, len(self._live))
        request.task = asyncio.get_running_loop().create_task(self._application.__rsgi__(scope, request))

    # What the application answers.

    def answer(self, request: Request, reply: Reply) -> None:
        stream = request.stream
        self._processed = max(self._processed, stream)
        self.limit.answered(reply.status)
        if self._live.get(stream) is request and self._answers.send(stream, reply):
            self._forget(stream)
        self._announce()
        if not self._flushing:  # once for all answers of this turn of the loop
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def break_off(self, request: Request, fault: OfRequest, reply: Reply | None) -> None:
        stream, connection = request.stream, self._connection
        if reply is not None:
            self._processed = max(self._processed, stream)
        if self._live.get(stream) is not request:
            return
        self._flush()  # what was answered before
        match fault:
            case Reset():
                self._h2.reset_stream(stream, fault.error_code)
                self._flush()
                self._forget(stream)
            case Drop():
                if fault.tcp == "reset":
                    connection.reset()
                else:
                    connection.close()
            case Goaway():
                self._go_away_at(request, fault, reply)
            case Stall():
                if fault.scope == "connection":
                    connection.freeze()
                if fault.seconds is not None:
                    asyncio.get_running_loop().call_later(fault.seconds, self._go_on, request, reply)

    def _go_on(self, request: Request, reply: Reply | None) -> None:
        self._connection.thaw()
        if reply is not None:
            self.answer(request, reply)

    def _go_away_at(self, request: Request, fault: Goaway, reply: Reply | None) -> None:
        self._go_away(self._processed, fault.code, fault.reason)
        # What the application has not finished it has not accepted, either: nothing is awaited after that.
        for stream, other in list(self._live.items()):
            if other is not request and (stream > self._processed or fault.in_flight == "drop"):
                if other.task:
                    other.task.cancel()
                self._forget(stream)
        if fault.in_flight == "drop":
            self._connection.close()
        elif reply is not None:
            self.answer(request, reply)
        else:
            if request.stream < self._processed:
                self._h2.reset_stream(request.stream, REFUSED_STREAM)
                self._flush()
            self._forget(request.stream)
        self._close_if_done()

    def _go_away(self, last: int, code: int = 0, reason: str = "") -> None:
        self._flush()
        self._last = last if self._last is None else min(last, self._last)
        self._connection.write(goaway(self._last, code, reason))

    def _forget(self, stream: int) -> None:
        self._live.pop(stream, None)
        self._answers.forget(stream)
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._last is not None and not self._live:
            self._flush()
            self._connection.close()

    def _announce(self) -> None:
        if not self._over and (streams := self.limit.announce()) is not None:
            self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: streams})

    def _flush(self) -> None:
        self._flushing = False
        if data := self._h2.data_to_send():
            self._connection.write(data)
