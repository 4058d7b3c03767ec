"""One reusable libcurl transfer: how a push becomes options, and how its end becomes an answer."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import pycurl

from stream.delivery.exchange import Answer, PushRequest, PushResponse, TransportError

MAX_BODY = 64 * 1024
"""Bytes of an answer that are read: providers answer with less than one KB. A longer one is cut off there."""
DNS_SECONDS = 60
"""How long a resolved address is kept. Both providers move traffic by DNS; libcurl's own default is the same."""
IDLE_SECONDS = 1800
"""How long an idle connection is reused. Apple asks to keep connections open between sends ('Sending notification
requests to APNs', best practices); a dead one is noticed by TCP keep-alive."""

_NEVER_SENT = {
    pycurl.E_COULDNT_RESOLVE_HOST: "resolve",
    pycurl.E_COULDNT_RESOLVE_PROXY: "resolve",
    pycurl.E_COULDNT_CONNECT: "connect",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
    pycurl.E_SSL_CERTPROBLEM: "tls",
    pycurl.E_SSL_CIPHER: "tls",
    pycurl.E_PEER_FAILED_VERIFICATION: "tls",
    pycurl.E_SSL_CACERT_BADFILE: "tls",
    pycurl.E_SSL_ISSUER_ERROR: "tls",
    pycurl.E_URL_MALFORMAT: "request",
    pycurl.E_UNSUPPORTED_PROTOCOL: "request",
}


class NoCertificatesError(RuntimeError):
    """No CA certificates to verify the providers with: install the system's (ca-certificates) or set SURNIA_CA_FILE."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@dataclass(frozen=True, slots=True)
class Trust:
    """The certificates that providers are verified with: a bundle, a folder, or both."""

    file: str | None
    folder: str | None

    @classmethod
    def of(cls, ca_file: Path | None) -> Trust:
        """`ca_file` alone where it is given, else the system's. PycURL's wheel knows only its build machine's."""
        if ca_file:
            return cls(str(ca_file), None)
        paths = ssl.get_default_verify_paths()
        if not (paths.cafile or paths.capath):
            raise NoCertificatesError
        return cls(paths.cafile, paths.capath)


class EasyHandle:
    """A libcurl easy handle: set up once, then loaded with one request after another."""

    __slots__ = ("_body", "_headers", "_url", "curl")

    def __init__(self, trust: Trust, timeout: float) -> None:
        self._body: list[bytes] = []
        self._url = ""
        self._headers: list[str] | None = None
        self.curl = curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.POST, 1)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        # Wait for the first connection's TLS rather than open one for each of the first requests.
        curl.setopt(pycurl.PIPEWAIT, 1)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.SSL_VERIFYPEER, 1)
        curl.setopt(pycurl.SSL_VERIFYHOST, 2)
        if trust.file:
            curl.setopt(pycurl.CAINFO, trust.file)
        if trust.folder:
            curl.setopt(pycurl.CAPATH, trust.folder)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, round(timeout * 1000)))
        curl.setopt(pycurl.DNS_CACHE_TIMEOUT, DNS_SECONDS)
        curl.setopt(pycurl.MAXAGE_CONN, IDLE_SECONDS)
        curl.setopt(pycurl.TCP_KEEPALIVE, 1)
        # Neither provider asks for one, and each header is 2% of what libcurl does for a request.
        curl.setopt(pycurl.USERAGENT, "")
        # C calls C, without a frame of Python's for each answer.
        curl.setopt(pycurl.WRITEFUNCTION, self._body.append)
        curl.setopt(pycurl.MAXFILESIZE, MAX_BODY)

    def load(self, request: PushRequest) -> None:
        """Make the handle ready for a request. What it has from the one before is not said again."""
        if self._body:
            self._body.clear()
        setopt = self.curl.setopt
        if request.url is not self._url:
            setopt(pycurl.URL, request.url)
            self._url = request.url
        if request.headers is not self._headers:
            setopt(pycurl.HTTPHEADER, request.headers)
            self._headers = request.headers
        setopt(pycurl.POSTFIELDS, request.body)

    def answer(self) -> PushResponse:
        """The answer of a transfer that ended well. libcurl reads Retry-After itself, seconds or date; 0 is none."""
        info = self.curl.getinfo
        status: int = info(pycurl.RESPONSE_CODE)
        seconds: float = info(pycurl.TOTAL_TIME)
        body = b"".join(self._body)
        if status == 200:
            return PushResponse(status, body, None, seconds)
        return PushResponse(status, body, float(info(pycurl.RETRY_AFTER)) or None, seconds)

    def failure(self, code: int, message: str) -> Answer:
        """Why a transfer ended badly, and whether the provider may have seen it."""
        if code == pycurl.E_FILESIZE_EXCEEDED:
            return self.answer()
        seconds = float(self.curl.getinfo(pycurl.TOTAL_TIME))
        if code in _NEVER_SENT:
            return TransportError(_NEVER_SENT[code], False, message, seconds)
        reason = "timeout" if code == pycurl.E_OPERATION_TIMEDOUT else "reset"
        # Zero until the connection is up and the request about to leave.
        sent = float(self.curl.getinfo(pycurl.PRETRANSFER_TIME)) > 0
        return TransportError(reason, sent, message, seconds)
