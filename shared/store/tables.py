"""The tables, as SQLAlchemy declares them; hot paths read and write them through psycopg directly."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

_NOW = func.now()

users = Table(
    "users",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("shard", SmallInteger, Computed("surnia_shard(id)", persisted=True), nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("locale", Text, nullable=False, server_default="en"),
    Column("country", Text, comment="ISO 3166-1 alpha-2"),
    Column("last_event_at", DateTime(timezone=True)),
    Column("last_active_date", Date, comment="local date of last_event_at; the batch path's ladder counts from it"),
    Column("last_practice_at", DateTime(timezone=True)),
    Column("last_practice_date", Date, comment="local date of last_practice_at"),
    Column("streak", Integer, nullable=False, server_default="0", comment="local dates in a row with practice"),
    Column(
        "opted_out",
        SmallInteger,
        nullable=False,
        server_default="0",
        comment="a bit for each reminder kind's code that the user does not want",
    ),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("email", Text, comment="where reminders go when no device can be reached"),
    Column("email_opted_out", Boolean, nullable=False, server_default=text("false"), comment="wants no e-mail"),
    Column("email_retired_at", DateTime(timezone=True), comment="since when no mailbox belongs to the address"),
    Column("email_retired_reason", Text),
    Column(
        "unanswered",
        SmallInteger,
        nullable=False,
        server_default="0",
        comment="comebacks that were delivered since the last activity",
    ),
    Column("unanswered_on", Date, comment="local date of the last comeback counted in unanswered"),
    CheckConstraint("id > 0", name="id_positive"),
    # Answers the ladder's question (shard, zone, last active date on a rung) for a part of the hour, in key order for
    # keyset pages.
    Index("ix_users_silent", "shard", "time_zone", "last_active_date", text("surnia_spread(id)"), "id"),
)

devices = Table(
    "devices",
    metadata,
    Column("user_id", BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("device_id", Text, primary_key=True),
    Column("platform", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("app_version", Text),
    Column("registered_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("retired_at", DateTime(timezone=True)),
    Column("retired_reason", Text),
    Column("fcm_token", Text, comment="of the same app on an iOS device, for when APNs is in trouble"),
    Column("fcm_retired_at", DateTime(timezone=True), comment="since when fcm_token is not used; the device stays"),
    Column("fcm_retired_reason", Text),
    CheckConstraint("platform IN ('ios', 'android')", name="platform_known"),
    # A token that another user registers moves: found by this.
    Index("ix_devices_token", "token", postgresql_using="hash"),
    # So too this one; a hash index holds no NULLs, so devices without such a token cost nothing.
    Index("ix_devices_fcm_token", "fcm_token", postgresql_using="hash"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("local_date", Date, primary_key=True),
    Column("user_id", BigInteger, primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("path", SmallInteger, primary_key=True),
    Column("campaign", Text, primary_key=True, server_default=""),
    Column("result", SmallInteger, nullable=False, comment="shared/wire/sends.py Result"),
    Column("reason", Text, nullable=False),
    Column("provider", Text, nullable=False, server_default=""),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    Column("latency", Float, nullable=False, server_default="0", comment="seconds"),
    postgresql_partition_by="RANGE (local_date)",
)

scan_runs = Table(
    "scan_runs",
    metadata,
    Column("run_id", Text, primary_key=True, comment="kind and interval, the same for every rerun"),
    Column("kind", SmallInteger, nullable=False),
    Column("interval_start", DateTime(timezone=True), nullable=False),
    Column("interval_end", DateTime(timezone=True), nullable=False),
    Column(
        "slots", JSONB, nullable=False, comment="what plan made of the interval: [zone, local date, …], batch/plan.py"
    ),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
)

scan_checkpoints = Table(
    "scan_checkpoints",
    metadata,
    Column("run_id", Text, ForeignKey("scan_runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("shard", SmallInteger, primary_key=True),
    Column("after_key", JSONB, comment="what Kafka has acknowledged: [slot, id, place, begun, until]"),
    Column("done", Boolean, nullable=False, server_default=text("false")),
    Column("pages", Integer, nullable=False, server_default="0"),
    Column("counts", JSONB, nullable=False, server_default="[]", comment="[local date, answer, n] of its candidates"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
)

planned = Table(
    "planned",
    metadata,
    Column("local_date", Date, primary_key=True),
    Column("page_id", BigInteger, primary_key=True, comment="of outbox.page_id's sequence"),
    Column("path", SmallInteger, primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("campaign", Text, primary_key=True, server_default=""),
    Column("answer", Text, primary_key=True, comment="granted, or the reason of a denial"),
    Column("users", ARRAY(BigInteger), nullable=False),
    comment="what planners decided, page by page; pages may repeat one another, so count distinct users",
    postgresql_partition_by="RANGE (local_date)",
)

outbox = Table(
    "outbox",
    metadata,
    Column("page_id", BigInteger, Identity(always=True), primary_key=True),
    Column("records", LargeBinary, nullable=False, comment="Kafka messages of a planned page, shared/outbox.py"),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    comment="pages that are planned and not yet acknowledged by Kafka",
)

pauses = Table(
    "pauses",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("path", SmallInteger, comment="null: every path; and so on"),
    Column("kind", SmallInteger),
    Column("provider", Text),
    Column("campaign", Text),
    Column("reason", Text, nullable=False),
    Column("paused_by", Text, nullable=False),
    Column("paused_at", DateTime(timezone=True), nullable=False),
    Column("resumed_by", Text),
    Column("resumed_at", DateTime(timezone=True)),
    Column("resume_reason", Text),
)

erasure_keys = Table(
    "erasure_keys",
    metadata,
    Column("key_id", BigInteger, Identity(always=True), primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    comment="what pseudonyms are made with; a key that is gone can't be had again, and nobody turns them back",
)

erased = Table(
    "erased",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True, comment="in the order of their commits"),
    Column("key_id", BigInteger, ForeignKey("erasure_keys.key_id", ondelete="CASCADE"), nullable=False),
    Column("pseudonym", BigInteger, nullable=False, unique=True, comment="negative; in ledger and planned for the id"),
    Column("sieve", Integer, nullable=False, comment="20 bits of the id under the key, to pass over others quickly"),
    Column("erased_at", DateTime(timezone=True), nullable=False),
    comment="users who were erased while Kafka may still speak of them; goes with its key",
)

erasures = Table(
    "erasures",
    metadata,
    Column("erasure_id", UUID, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("kafka_partition", Integer, nullable=False),
    Column("kafka_offset", BigInteger, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False, comment="when the event says that it happened"),
    Column("begun_at", DateTime(timezone=True), nullable=False),
    Column("done_at", DateTime(timezone=True), comment="null: not everything has been erased yet"),
    Column("users", Integer, nullable=False, server_default="0", comment="rows of users; and so on"),
    Column("devices", Integer, nullable=False, server_default="0"),
    Column("gate_fields", Integer, nullable=False, server_default="0"),
    Column("due_entries", Integer, nullable=False, server_default="0"),
    Column("outbox_pages", Integer, nullable=False, server_default="0"),
    Column("ledger_rows", Integer, nullable=False, server_default="0", comment="now under a pseudonym"),
    Column("planned_entries", Integer, nullable=False, server_default="0", comment="now under a pseudonym"),
    # One proof for one event, however often it is handled. The instant, because a topic that is made anew counts its
    # offsets from 0.
    UniqueConstraint("topic", "kafka_partition", "kafka_offset", "asked_at"),
    comment="the proof of each erasure; says nothing of whom it was",
)

backfills = Table(
    "backfills",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("key", Text, nullable=False, comment="digest of the request: the same for everyone who asks for the same"),
    Column("request", JSONB, nullable=False, comment="batch/backfill/request.py Request"),
    Column("again", Boolean, nullable=False, comment="the same had been done before"),
    Column("via", Text, nullable=False, comment="local or airflow"),
    Column("rate", Float, comment="sends a second at most; null: as fast as it goes"),
    Column("state", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("run_by", Text, nullable=False, comment="who runs it, or ran it last"),
    Column("run_at", DateTime(timezone=True), nullable=False),
    Column("ended_by", Text, comment="who cancelled it"),
    Column("ended_at", DateTime(timezone=True)),
    Column("expected", JSONB, nullable=False, server_default="{}", comment="what its plan said, by kind"),
    CheckConstraint("state IN ('running', 'cancelling', 'cancelled', 'done')", name="state_known"),
    # Nobody begins what another has begun and not finished.
    Index("ix_backfills_unfinished", "key", unique=True, postgresql_where=text("state <> 'done'")),
)

backfill_checkpoints = Table(
    "backfill_checkpoints",
    metadata,
    Column("backfill_id", BigInteger, ForeignKey("backfills.id", ondelete="CASCADE"), primary_key=True),
    Column("path", SmallInteger, primary_key=True, comment="stream or batch"),
    Column("shard", SmallInteger, primary_key=True),
    Column("done", Boolean, nullable=False, server_default=text("false")),
    Column("pages", Integer, nullable=False, server_default="0"),
    Column("counts", JSONB, nullable=False, server_default="[]", comment="[kind, answer, n]"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    comment="how far a backfill came; names no users",
)
