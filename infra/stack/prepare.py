"""What a fresh server needs before anyone uses it: the topics and the database's tables.

Both are idempotent and destroy nothing, so that they also run against servers given by address.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from infra.stack.errors import PartError
from shared.store.addresses import place_of

if TYPE_CHECKING:
    from shared.settings import Settings

_SHARED = Path(__file__).parents[2] / "shared"


def migrate(settings: Settings) -> str:
    """Bring the tables of the main database up to date, and of those that have users; gives a line for the reader."""
    from shared.store.databases import Databases
    from shared.store.migrate import upgrade

    named = [(each.name, each.url.get_secret_value()) for each in Databases.of(settings) if not each.is_main]
    for name, url in [("", settings.require_postgres()), *named]:
        try:
            upgrade(url)
        except Exception as error:
            whose = f"the tables of {name} (SURNIA_DATABASES)" if name else "its tables"
            raise PartError("PostgreSQL", f"{whose} could not be brought up to date: {error}") from error
    return f"tables up to date in {len(named) + 1} databases" if named else "tables up to date"


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
        digest.update(repr([place_of(each.url.get_secret_value()) for each in settings.databases]).encode())
        files = sorted(path for path in (_SHARED / "store").rglob("*") if path.suffix in {".py", ".sql", ".ini"})
    for path in files:
        digest.update(str(path.relative_to(_SHARED)).encode())
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()[:16]
