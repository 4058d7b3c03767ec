"""What a fresh server needs before anyone uses it: the topics and the database's tables.

Both are idempotent and destroy nothing, so that they also run against servers given by address.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from infra.stack.errors import PartError

if TYPE_CHECKING:
    from shared.settings import Settings

_SHARED = Path(__file__).parents[2] / "shared"


def migrate(postgres_url: str) -> str:
    """Bring the database's tables up to date; gives a line for the reader."""
    from shared.store.migrate import upgrade

    try:
        upgrade(postgres_url)
    except Exception as error:
        raise PartError("PostgreSQL", f"its tables could not be brought up to date: {error}") from error
    return "tables up to date"


def create_topics(settings: Settings) -> str:
    """Create the topics that are missing; gives a line for the reader."""
    from shared.topics import ensure_topics

    try:
        created = asyncio.run(ensure_topics(settings))
    except Exception as error:
        raise PartError("Kafka", f"its topics could not be created: {error}") from error
    return f"{len(created)} topics created" if created else "topics there"


def fingerprint(name: str, settings: Settings) -> str:
    """Changes when the code or the settings that `name` is prepared from change."""
    digest = hashlib.sha256()
    if name == "kafka":
        files = [_SHARED / "topics.py"]
        digest.update(repr((settings.topic_prefix, settings.partitions, settings.replication)).encode())
    else:
        files = sorted(path for path in (_SHARED / "store").rglob("*") if path.suffix in {".py", ".sql", ".ini"})
    for path in files:
        digest.update(str(path.relative_to(_SHARED)).encode())
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()[:16]
