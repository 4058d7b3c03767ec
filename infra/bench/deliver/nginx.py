"""nginx as APNs and FCM: it accepts every push and looks at none, so that it is not what is measured."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

from infra.bench.deliver.report import BenchError
from infra.stack import process
from infra.stack.state import LOOPBACK, choose_port
from infra.stack.tls import ensure_tls

START_SECONDS = 10.0
STOP_SECONDS = 5.0

# Streams: what APNs announces. The requests a connection carries are not limited, as they are by default (1000): a
# client that reconnects all the time would be measured for that. An empty answer ends with its headers, as APNs' does.
_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  http2_max_concurrent_streams 1000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  default_type application/json;
  server {{
    listen {host}:{port} ssl http2;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    location /3/device/ {{ add_header apns-id $http_apns_id; return 200 ""; }}
    location /v1/projects/ {{ return 200 '{{"name": "projects/surnia-demo/messages/0:1"}}'; }}
    location = /token {{ return 200 '{{"access_token": "bench", "expires_in": 86400, "token_type": "Bearer"}}'; }}
  }}
}}
"""


def find_nginx() -> str | None:
    """Its path. Debian keeps it where only root's PATH leads."""
    return shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


class Nginx:
    """A context manager; runs as who started it, on a free port of loopback."""

    def __init__(self, binary: str, state_dir: Path) -> None:
        self._binary = binary
        self._state_dir = state_dir.absolute()
        self._port = choose_port(None)
        self.url = f"https://{LOOPBACK}:{self._port}"
        said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=False).stderr
        self.what = said.rpartition("version: ")[2].strip() or "nginx"

    def __enter__(self) -> Self:
        folder = self._state_dir / "nginx"
        folder.mkdir(parents=True, exist_ok=True)
        tls = ensure_tls(self._state_dir)
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(folder=folder, host=LOOPBACK, port=self._port, cert=tls.cert, key=tls.key)
        )
        log = folder / "nginx.log"
        command = [self._binary, "-p", str(folder), "-c", str(configuration)]
        self._process = process.spawn(command, log, cwd=folder)
        process.wait_until(lambda: self._listens() or not process.is_alive(self._process), START_SECONDS)
        if not self._listens():
            self.__exit__()
            raise BenchError("nginx does not start. It said:\n" + "\n".join(process.tail(log)))
        return self

    def __exit__(self, *_: object) -> None:
        process.end(self._process, signal.SIGTERM, STOP_SECONDS)

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self._port), timeout=1):
            return True
        return False
