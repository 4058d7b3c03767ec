"""Files, whole and broken, as rows of text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.users import source
from batch.users.source import MAX_LINE, RawChunk, open_source
from batch.users.validate import FormatError


def read(path: Path) -> RawChunk:
    """The whole file as one chunk."""
    whole = RawChunk()
    for chunk in open_source(path, None).chunks():
        whole.rows += chunk.rows
        whole.malformed += chunk.malformed
        whole.done = chunk.done
    return whole


def write(folder: Path, content: bytes) -> Path:
    path = folder / "users.csv"
    path.write_bytes(content)
    return path


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    path = write(tmp_path, b'\xef\xbb\xbfid,time_zone\r\n1,UTC\r\n\r\n2,"Asia/Tokyo"')
    assert open_source(path, None).header == ["id", "time_zone"]
    assert read(path).rows == [(2, ["1", "UTC"]), (4, ["2", "Asia/Tokyo"])]
    assert read(path).done == path.stat().st_size


def test_a_stray_quote_spoils_only_its_own_line(tmp_path: Path) -> None:
    chunk = read(write(tmp_path, b'id,time_zone\n1,"UTC\n2,UTC\n'))
    assert chunk.rows == [(3, ["2", "UTC"])]
    assert [position for position, _, _ in chunk.malformed] == [2]


def test_a_line_without_end_is_cut_and_skipped(tmp_path: Path) -> None:
    chunk = read(write(tmp_path, b"id,time_zone\n1," + b"x" * 5_000_000 + b"\n2,UTC\n"))
    assert chunk.rows == [(3, ["2", "UTC"])]
    assert [(position, len(fields[0])) for position, _, fields in chunk.malformed] == [(2, 1000)]


def test_an_endless_last_line_is_reported_once(tmp_path: Path) -> None:
    chunk = read(write(tmp_path, b"id,time_zone\n1,UTC\n" + b"x" * (3 << 20)))
    assert len(chunk.rows) == len(chunk.malformed) == 1


@pytest.mark.parametrize("block", [7, 64])
def test_blocks_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(source, "_BLOCK", block)
    content = "id,time_zone\n" + "".join(f"{number},Ünï\n" for number in range(50))
    assert read(write(tmp_path, content.encode())).rows == [(n + 2, [str(n), "Ünï"]) for n in range(50)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.binary(max_size=300))
def test_any_bytes_give_rows_or_reasons(tmp_path: Path, body: bytes) -> None:
    path = write(tmp_path, b"id,time_zone\n" + body)
    chunk = read(path)
    lines = [line for line in body.split(b"\n") if line not in (b"", b"\r")]
    assert len(chunk.rows) + len(chunk.malformed) == len(lines)


def test_chunks_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CHUNK_ROWS", 10)
    path = write(tmp_path, b"id,time_zone\n" + b"1,UTC\n" * 25)
    assert [len(chunk.rows) for chunk in open_source(path, None).chunks()] == [10, 10, 5]


def test_parquet_values_become_the_text_of_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "users.bin"
    at = datetime(2026, 11, 3, 20, 0, 0, 250_000, tzinfo=UTC)
    table = pa.table(
        {
            "id": [1, 2],
            "time_zone": pa.array(["UTC", "UTC"]).dictionary_encode(),
            "last_event_at": pa.array([at, None], pa.timestamp("us", "UTC")),
            "streak": [3.0, None],
        }
    )
    pq.write_table(table, path)
    (first, one), (second, two) = read(path).rows
    assert (first, second) == (1, 2)
    assert [*one[:2], one[3]] == ["1", "UTC", "3"] and datetime.fromisoformat(one[2]) == at
    assert two == ["2", "UTC", "", ""]


@pytest.mark.parametrize(
    "column", [pa.array([1.5]), pa.array([[1]]), pa.array([datetime(2026, 1, 1)], pa.timestamp("us"))]
)
def test_parquet_columns_that_say_nothing_clear_are_refused(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "users.parquet"
    pq.write_table(pa.table({"id": [1], "time_zone": ["UTC"], "streak": column}), path)
    with pytest.raises(FormatError, match="column streak"):
        read(path)


@pytest.mark.parametrize("content", [b"PAR1 and no more", b"\xff\xfe\x00i", b"id,\x80\n"])
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FormatError):
        open_source(write(tmp_path, content), None)


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "users.parquet"
    pq.write_table(pa.table({"id": range(5000), "time_zone": ["UTC"] * 5000}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[8:400] = bytes(392)
    path.write_bytes(content)
    with pytest.raises(FormatError, match="damaged"):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="nowhere"):
        open_source(tmp_path / "nowhere.csv", None)


def test_the_longest_line_fits() -> None:
    # user, device, platform and the largest token and then some
    assert MAX_LINE > 4 * 4096
