"""Brings a database to the newest tables. Idempotent; two at once wait for one another."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

_LOCK = 0x5375726E6961  # "Surnia": any number, the same for everyone who migrates


def sqlalchemy_url(postgres_url: str) -> str:
    """A libpq address as SQLAlchemy wants it, with psycopg 3 as the driver."""
    scheme, _, rest = postgres_url.partition("://")
    if scheme not in ("postgresql", "postgres") or not rest:
        raise ValueError("SURNIA_POSTGRES_URL must look like postgresql://user:password@host:port/database")
    return f"postgresql+psycopg://{rest}"


def upgrade(postgres_url: str, revision: str = "head") -> None:
    """Run the migrations that are missing."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = create_engine(sqlalchemy_url(postgres_url))
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            try:
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
                connection.commit()
            except BaseException:
                connection.rollback()  # A failed transaction would refuse the unlocking, and hide why it failed.
                raise
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
                connection.commit()
    finally:
        engine.dispose()
