"""Where PostgreSQL's files go when it may not run as the user who called us."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.stack import unprivileged
from infra.stack.unprivileged import Runner, choose_runner, reachable_folder, reachable_install

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as somebody else")


@pytest.fixture(autouse=True)
def folders_of_the_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What would go below /var/tmp goes to a folder that everybody may enter and that the test removes."""
    open_folder = Path(tempfile.mkdtemp(prefix="surnia-test-"))
    open_folder.chmod(0o755)
    monkeypatch.setattr(unprivileged, "_lasting_folder", lambda: open_folder)
    yield
    shutil.rmtree(open_folder)


def test_an_ordinary_user_runs_it_where_it_was_asked_for(tmp_path: Path) -> None:
    wanted = tmp_path / "postgres"
    assert reachable_folder(wanted, Runner(), "") == wanted
    assert wanted.stat().st_mode & 0o777 == 0o700
    assert reachable_install(tmp_path, Runner()) == tmp_path


@needs_root
def test_root_runs_it_as_somebody_else() -> None:
    assert choose_runner().uid not in (None, 0)


@needs_root
def test_data_goes_elsewhere_below_a_closed_folder_and_stays_there(tmp_path: Path) -> None:
    runner = choose_runner()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    elsewhere = reachable_folder(closed / "postgres", runner, "")
    assert elsewhere != closed / "postgres"
    assert runner.can_enter(elsewhere)
    assert elsewhere.stat().st_uid == runner.uid
    assert reachable_folder(closed / "postgres", runner, str(elsewhere)) == elsewhere


@needs_root
def test_a_recorded_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    runner = choose_runner()
    planted = tmp_path / "surnia-postgres-planted"
    planted.mkdir()
    assert reachable_folder(tmp_path / "closed", runner, str(planted)) != planted
