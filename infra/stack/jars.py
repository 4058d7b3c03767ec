"""Kafka's jars, brought once into a cache of the user: by Maven where there is one, else by direct download.

Both ways end at the same check: exactly the files of `kafka-jars.txt`, each with its pinned SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from infra.stack.errors import DownloadError
from infra.stack.part import Report
from infra.stack.state import exclusive

KAFKA_VERSION = "4.0.2"
REPOSITORY = "https://repo1.maven.org/maven2"
REPOSITORY_VARIABLE = "SURNIA_MAVEN_REPOSITORY"
_LIST = Path(__file__).with_name("kafka-jars.txt")
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Jar:
    """One pinned file: where it lies in a Maven repository and what it must contain."""

    path: str
    sha256: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def coordinates(self) -> tuple[str, str, str]:
        """Group, artifact and version."""
        *group, artifact, version, _ = self.path.split("/")
        return ".".join(group), artifact, version


def pinned_jars(text: str | None = None) -> list[Jar]:
    """The pinned list; lines of `sha256 path`."""
    lines = (_LIST.read_text() if text is None else text).splitlines()
    pairs = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return [Jar(path, digest) for digest, path in pairs]


def cache_folder() -> Path:
    """Where the jars lie: XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "surnia" / f"kafka-{KAFKA_VERSION}"


def ensure_jars(report: Report, folder: Path | None = None) -> Path:
    """The folder with all jars; fetches them where it is missing or not whole."""
    folder = folder or cache_folder()
    jars = pinned_jars()
    if _looks_whole(folder, jars):
        return folder
    with exclusive(folder.with_name(folder.name + ".lock"), lambda: report("another process fetches Kafka's jars")):
        if _looks_whole(folder, jars):
            return folder
        half = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _fetch(half, jars, report)
            if folder.exists():
                shutil.rmtree(folder)
            half.chmod(0o755)
            half.rename(folder)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    return folder


def wrong_files(folder: Path, jars: list[Jar]) -> list[str]:
    """Names of the jars that are missing from `folder` or differ from their checksum."""

    def is_wrong(jar: Jar) -> bool:
        try:
            with (folder / jar.name).open("rb") as handle:
                return hashlib.file_digest(handle, "sha256").hexdigest() != jar.sha256
        except OSError:
            return True

    return [jar.name for jar in jars if is_wrong(jar)]


def _looks_whole(folder: Path, jars: list[Jar]) -> bool:
    # The folder appears by one rename after every checksum was compared: the names are enough later on.
    try:
        return {jar.name for jar in jars} <= {path.name for path in folder.iterdir()}
    except OSError:
        return False


def _fetch(half: Path, jars: list[Jar], report: Report) -> None:
    # A repository named by hand is meant to be used: Maven would ask its own.
    if shutil.which("mvn") and not os.environ.get(REPOSITORY_VARIABLE):
        report("fetching Kafka's jars with Maven")
        if copy_with_maven(half, jars) and not wrong_files(half, jars):
            wanted = {jar.name for jar in jars}
            for stray in [path for path in half.iterdir() if path.name not in wanted]:
                stray.unlink()
            return
        report("Maven could not bring the pinned jars; downloading them")
    download(half, jars, report)


def copy_with_maven(folder: Path, jars: list[Jar]) -> bool:
    """Let Maven bring the jars through the user's own repositories, mirrors and proxies."""
    # Listed one by one and without what they ask for, so that Maven resolves nothing other than what is pinned.
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>"
        for group, artifact, version in (jar.coordinates for jar in jars)
    )
    with tempfile.TemporaryDirectory(prefix="surnia-pom-") as work:
        pom = Path(work) / "pom.xml"
        pom.write_text(
            '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
            "<groupId>surnia</groupId><artifactId>kafka</artifactId><version>1</version>"
            f"<dependencies>{dependencies}</dependencies></project>\n"
        )
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
        try:
            done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=600)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0


def download(folder: Path, jars: list[Jar], report: Report) -> None:
    """Fetch every jar over HTTPS from the repository and compare its checksum."""
    base = (os.environ.get(REPOSITORY_VARIABLE) or REPOSITORY).rstrip("/")
    finished = 0
    arrived = 0

    def fetch(jar: Jar) -> None:
        nonlocal arrived, finished
        digest = hashlib.sha256()
        # Any scheme will do, a folder's file: too: what counts is the checksum.
        answer = urlopen(f"{base}/{jar.path}", timeout=60)  # noqa: S310
        with answer as response, (folder / jar.name).open("wb") as target:
            while chunk := response.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
                arrived += len(chunk)
                report(f"downloading Kafka's jars: {finished} of {len(jars)}, {arrived / 1e6:.0f} MB")
        if digest.hexdigest() != jar.sha256:
            raise DownloadError(
                f"{base}/{jar.path} is not the file that was pinned (SHA-256 {digest.hexdigest()}). Unset "
                f"{REPOSITORY_VARIABLE} or name a repository that mirrors Maven Central unchanged."
            )
        finished += 1

    try:
        with ThreadPoolExecutor(max_workers=6, thread_name_prefix="jars") as pool:
            list(pool.map(fetch, jars))
    except (URLError, OSError) as error:
        raise DownloadError(
            f"Kafka's jars could not be downloaded from {base} ({error}). Check the network, or set "
            f"{REPOSITORY_VARIABLE} to a mirror of Maven Central, or SURNIA_KAFKA_BROKERS to a Kafka of yours."
        ) from error
