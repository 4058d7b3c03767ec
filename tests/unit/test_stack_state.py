"""What the stack remembers: stack.json, secrets, locks, ports."""

from __future__ import annotations

import json
import socket
import stat
import threading
from pathlib import Path

from infra.stack.state import LOOPBACK, StateStore, choose_port, exclusive, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_state_survives_a_round_trip(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.record("kafka", pid=7, pgid=7, started_ticks=99, port=9092, extra_ports={"controller": 9093})
    store.change(lambda state: state.settings.update(kafka_brokers="127.0.0.1:9092"))

    again = StateStore(tmp_path).read()
    assert again.settings == {"kafka_brokers": "127.0.0.1:9092"}
    assert again.parts["kafka"].started_ticks == 99
    assert again.parts["kafka"].extra_ports == {"controller": 9093}


def test_only_the_owner_reads_state_and_secrets(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state")
    store.prepare()
    store.record("valkey", port=1)
    store.secret("valkey")
    assert mode(store.path) == 0o600
    assert mode(tmp_path / "state" / "secrets.json") == 0o600
    assert mode(tmp_path / "state") == 0o711


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    first = StateStore(tmp_path).secret("postgres")
    assert StateStore(tmp_path).secret("postgres") == first
    assert StateStore(tmp_path).secret("valkey") != first


def test_half_a_file_or_another_version_counts_as_nothing(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    for text in ('{"version": 1, "sett', "[]", '{"version": 99, "settings": {"kafka_brokers": "x"}}'):
        store.path.write_text(text)
        assert store.read().settings == {}


def test_fields_of_a_later_release_are_ignored(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.path.write_text(json.dumps({"version": 1, "parts": {"kafka": {"port": 5, "colour": "blue"}}}))
    assert store.read().parts["kafka"].port == 5


def test_parts_that_record_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    threads = [threading.Thread(target=store.record, args=(f"part{n}",), kwargs={"port": n}) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {part.port for part in store.read().parts.values()} == set(range(16))


def test_the_wanted_port_is_kept_while_it_is_free() -> None:
    port = choose_port(None)
    assert choose_port(port) == port


def test_a_taken_port_is_given_up() -> None:
    with socket.socket() as squatter:
        squatter.bind((LOOPBACK, 0))
        squatter.listen()
        taken = squatter.getsockname()[1]
        assert choose_port(taken) != taken
    free = choose_port(None)
    assert choose_port(free, (free,)) != free


def test_the_second_holder_of_a_lock_is_told_that_it_waits(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    waiting, entered = threading.Event(), threading.Event()

    def second() -> None:
        with exclusive(path, waiting.set):
            entered.set()

    thread = threading.Thread(target=second)
    with exclusive(path):
        thread.start()
        assert waiting.wait(5)
        assert not entered.is_set()
    assert entered.wait(5)
    thread.join()


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]
