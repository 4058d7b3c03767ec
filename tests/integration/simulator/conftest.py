"""One simulator a package, well and empty for every test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import firebase_admin
import pytest
from firebase_admin import credentials, messaging

from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import TOPIC, ca, keys


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path_factory.mktemp("simulator"), environment={"SURNIA_APNS_TOPIC": TOPIC}) as process:
        yield process


@pytest.fixture
def simulator(running: SimulatorProcess) -> SimulatorProcess:
    running.set_faults()
    running.reset()
    return running


@pytest.fixture
def firebase(simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[firebase_admin.App]:
    # google-auth runs on requests, firebase-admin's batches on httpx: each has its own variable for the CA.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca(simulator)))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca(simulator)))
    address = simulator.url + "/v1/projects/{0}/messages:send"
    monkeypatch.setattr(messaging._MessagingService, "FCM_URL", address)
    account = json.loads(keys(simulator).fcm_credentials_file.read_text())
    app = firebase_admin.initialize_app(credentials.Certificate(account), name=uuid4().hex)
    yield app
    firebase_admin.delete_app(app)
