"""The few calls of Airflow's REST API that Surnia makes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from infra.airflow.environment import USER, ensure_secrets, home
from infra.airflow.errors import AirflowError
from infra.stack.state import LOOPBACK

if TYPE_CHECKING:
    from shared.settings import Settings

# Health's words for what we call by the names of the commands.
_COMPONENTS = {"metadatabase": "api-server", "scheduler": "scheduler", "dag_processor": "dag-processor"}
# Loopback never goes through a proxy, whatever the environment says.
_opener = build_opener(ProxyHandler({}))


class ApiError(AirflowError):
    """Airflow did not answer, or refused."""

    def __init__(self, problem: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(problem)


class Api:
    """Airflow's API server on loopback, as its admin."""

    def __init__(self, settings: Settings, port: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self._home = home(settings)
        self._token = ""

    @property
    def login(self) -> tuple[str, str]:
        """User and password of the UI."""
        return USER, ensure_secrets(self._home)["password"]

    def unhealthy(self) -> list[str]:
        """Names of the components that do not report themselves healthy."""
        found = self._call("GET", "/api/v2/monitor/health", authorized=False)
        return [name for part, name in _COMPONENTS.items() if (found.get(part) or {}).get("status") != "healthy"]

    def paused(self, dag_id: str) -> bool | None:
        """Whether a DAG is paused; None while Airflow does not know it. Raises where its file does not import."""
        try:
            return bool(self.call("GET", f"/api/v2/dags/{dag_id}")["is_paused"])
        except ApiError as error:
            if error.status != 404:
                raise
        broken = self.call("GET", "/api/v2/importErrors")["import_errors"]
        if broken:
            raise AirflowError(f"{broken[0]['filename']} does not import: {broken[0]['stack_trace']}")
        return None

    def unpause(self, dag_id: str) -> bool:
        """Let a DAG's runs start; False where they did already."""
        if not self.paused(dag_id):
            return False
        self.call("PATCH", f"/api/v2/dags/{dag_id}?update_mask=is_paused", {"is_paused": False})
        return True

    def trigger(self, dag_id: str, start: datetime, end: datetime) -> str:
        """Start a run for [start, end); gives its run id."""
        conf = {"interval_start": start.isoformat(), "interval_end": end.isoformat()}
        made = self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return str(made["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """queued, running, success or failed."""
        return str(self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        value = self.call("GET", path)["value"]
        return json.loads(value) if isinstance(value, str) else value

    def call(self, method: str, path: str, body: object = None) -> Any:
        """A call with a token, which is fetched at the first one."""
        if not self._token:
            user, password = self.login
            answer = self._call("POST", "/auth/token", {"username": user, "password": password}, authorized=False)
            self._token = answer["access_token"]
        return self._call(method, path, body)

    def _call(self, method: str, path: str, body: object = None, authorized: bool = True) -> Any:
        headers = {"Content-Type": "application/json"}
        if authorized:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        try:
            request = Request(self.url + path, data, headers, method=method)  # noqa: S310  # http and loopback, always
            with _opener.open(request, timeout=10) as response:
                return json.loads(response.read() or b"null")
        except HTTPError as error:
            said = error.read().decode(errors="replace")[:500]
            raise ApiError(f"{method} {path} was answered {error.code}: {said}", error.code) from error
        except (URLError, OSError, ValueError) as error:
            raise ApiError(f"{self.url} does not answer ({error}); `surnia airflow up` starts it.") from error
