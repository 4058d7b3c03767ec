"""HTTP/1.1 on one connection: admin calls and token clients speak it."""

from __future__ import annotations

import asyncio
from typing import Final

import h11

from infra.simulator.faults.transport import Drop, Goaway, OfRequest, Reset, Stall
from infra.simulator.front.request import Request, RequestScope
from infra.simulator.front.tls import Connection
from infra.simulator.reply import Reply
from infra.simulator.wire import Application

_CLOSE: Final = ("connection", "close")


class Http1:
    """Speaks HTTP/1.1, one request after the other, and calls the application."""

    def __init__(self, connection: Connection, application: Application) -> None:
        self._connection = connection
        self._application = application
        self._h11 = h11.Connection(h11.SERVER)
        self._request: Request | None = None  # not answered yet
        self._reading: Request | None = None
        self._leaving = False

    def received(self, data: bytes) -> None:
        self._h11.receive_data(data)
        self._read()

    def lost(self) -> None:
        if self._reading:
            self._reading.end()
        self._request = None

    def leave(self) -> None:
        self._leaving = True
        if self._request is None:
            self._connection.close()

    def answer(self, request: Request, reply: Reply) -> None:
        if self._request is not request:
            return
        self._request = None
        # A body that was not read to its end would be taken for the next request.
        last = self._leaving or self._h11.their_state is not h11.DONE
        headers = [*reply.headers, ("content-length", str(len(reply.body))), *([_CLOSE] if last else [])]
        self._send(h11.Response(status_code=reply.status, headers=headers, reason=b""))
        if reply.body and request.scope.method != "HEAD":
            self._send(h11.Data(data=reply.body))
        self._send(h11.EndOfMessage())
        if last or self._h11.our_state is not h11.DONE:
            self._connection.close()
            return
        self._h11.start_next_cycle()
        self._read()

    def break_off(self, request: Request, fault: OfRequest, reply: Reply | None) -> None:
        """The nearest that HTTP/1.1 has to each fault."""
        match fault:
            case Reset() | Drop(tcp="reset"):
                self._connection.reset()
            case Drop() | Goaway(in_flight="drop"):
                self._connection.close()
            case Goaway():
                self._leaving = True
                if reply is None:
                    self._connection.close()
                else:
                    self.answer(request, reply)
            case Stall() if fault.seconds is not None and reply is not None:
                asyncio.get_running_loop().call_later(fault.seconds, self.answer, request, reply)

    def _read(self) -> None:
        try:
            while self._handle(self._h11.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                headers = [_CLOSE, ("content-length", "0")]
                self._send(h11.Response(status_code=error.error_status_hint, headers=headers, reason=b""))
            self._connection.close()

    def _handle(self, event: object) -> bool:
        """Whether there may be another event."""
        match event:
            case h11.Request():
                pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
                scope = RequestScope.of(event.method.decode(), event.target.decode("latin-1"), "1.1", pairs)
                self._request = self._reading = Request(0, scope, self)
                self._request.task = asyncio.get_running_loop().create_task(
                    self._application.__rsgi__(scope, self._request)
                )
                if self._h11.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
            case h11.Data() if self._reading:
                self._reading.feed(bytes(event.data))
            case h11.EndOfMessage() if self._reading:
                self._reading.end()
                self._reading = None
            case h11.ConnectionClosed():
                self._connection.close()
                return False
            case _:
                return event not in (h11.NEED_DATA, h11.PAUSED)
        return True

    def _send(self, event: h11.Event) -> None:
        if data := self._h11.send(event):
            self._connection.write(data)
