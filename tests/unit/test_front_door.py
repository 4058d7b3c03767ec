"""`surnia` loads what a command needs when it runs: each start of it would else take seconds."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"airflow", "aiokafka", "faust", "jinja2", "numpy", "plotly", "psycopg", "pyarrow", "redis", "sqlalchemy"}
LOAD = """
import json, sys
from importlib import import_module
import surnia
for part in surnia._PARTS:
    import_module(part).register(surnia.app)
print(json.dumps(sorted(sys.modules)))
"""


def test_the_front_door_loads_no_servers_clients_and_no_tables() -> None:
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "batch" in loaded
    assert not loaded & HEAVY
