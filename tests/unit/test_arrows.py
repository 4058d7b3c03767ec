"""Arrows point one way, and only the clock knows what time it is: read from the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("shared", "stream", "batch", "dags", "infra")
FORBIDDEN = {
    "shared": {"stream", "batch", "dags", "infra", "surnia"},
    "stream": {"batch", "dags", "infra", "surnia"},
    "batch": {"stream", "dags", "infra", "surnia"},
    "dags": {"stream", "infra", "surnia"},
    "infra": {"surnia", "tests"},
}
TELLS_THE_TIME = {
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "pendulum.now",
}


def modules(part: str) -> list[Path]:
    found = sorted((ROOT / part).rglob("*.py"))
    assert found, f"no modules in {part}"
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide their direction"
            assert node.module
            yield node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "files")):
            yield from (str(each.value) for each in node.args if isinstance(each, ast.Constant))


def roots(path: Path) -> set[str]:
    """The packages that a module imports from."""
    return {name.partition(".")[0] for name in imports(ast.parse(path.read_text()))}


def names(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for, in full."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.asname or name.name: name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    return found


def clocks(source: str) -> set[str]:
    """The functions that a module asks for the time, called or handed on."""
    tree = ast.parse(source)
    known = names(tree)
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, _, rest = ast.unparse(node).partition(".")
            used.add(f"{known.get(first, first)}.{rest}".rstrip("."))
    return used & TELLS_THE_TIME


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_only_what_it_may(part: str) -> None:
    wrong = {str(path.relative_to(ROOT)): found for path in modules(part) if (found := roots(path) & FORBIDDEN[part])}
    assert not wrong


def test_dags_leave_servers_to_the_batch_path() -> None:
    clients = {"psycopg", "psycopg_pool", "redis", "aiokafka", "sqlalchemy", "pycurl"}
    assert not [path for path in modules("dags") if roots(path) & clients]


@pytest.mark.parametrize("part", PARTS)
def test_only_the_clock_knows_what_time_it_is(part: str) -> None:
    told = {str(path.relative_to(ROOT)): found for path in modules(part) if (found := clocks(path.read_text()))}
    told.pop("shared/clock.py", None)
    assert not told


@pytest.mark.parametrize("part", PARTS)
def test_parts_that_are_imported_say_what_they_are(part: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / part / "__init__.py").read_text()))


@pytest.mark.parametrize("part", ["shared", "batch"])
def test_only_dags_know_airflow(part: str) -> None:
    assert not [path for path in modules(part) if "airflow" in roots(path)]


@pytest.mark.parametrize("part", ["shared", "batch", "dags"])
def test_only_the_stream_knows_faust(part: str) -> None:
    assert not [path for path in modules(part) if roots(path) & {"faust", "mode"}]


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "import time as t\nt.time()",
        "from time import time\ntime()",
        "from datetime import datetime\ndatetime.now()",
        "from datetime import datetime as dt\nfield(default_factory=dt.utcnow)",
        "import datetime\ndatetime.datetime.now(datetime.UTC)",
        "from datetime import date\ndate.today()",
    ],
)
def test_the_search_for_clocks_finds_them(source: str) -> None:
    assert clocks(source)


@pytest.mark.parametrize("source", ["import time\ntime.monotonic()", "clock.now()", "from time import perf_counter"])
def test_the_search_for_clocks_leaves_others_alone(source: str) -> None:
    assert not clocks(source)


def test_the_search_for_imports_looks_inside_functions() -> None:
    assert list(imports(ast.parse("def f():\n    from stream.app import x\n    import batch.scan"))) == [
        "stream.app",
        "batch.scan",
    ]
