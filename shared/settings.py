"""Every setting of Surnia in one place: `SURNIA_*` in the environment or in `.env`.

`load_settings()` is called once by whoever starts a process; the object is then passed in. What is not
set falls back on the local stack's addresses, which `surnia up` records in `STATE_DIR/stack.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from shared.clock import Clock, open_clock
from shared.policy.holdout import shares
from shared.policy.localtime import known_zones
from shared.store.addresses import DatabaseAddress, read_addresses

WEEK_HOURS = 192
"""Eight days: the first of seven local dates is asked for until the last one is over, wherever that is."""
Port = Annotated[int, Field(ge=0, le=65535)]


class MissingAddressError(RuntimeError):
    """A server's address is neither set nor recorded by a running local stack."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"No address for {name}: run `surnia up` to start the local stack, or set SURNIA_{name.upper()}."
        )


class StackSource(PydanticBaseSettingsSource):
    """Addresses of the local stack, the last place that settings are looked for."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  # its signature
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        # Wherever the sources before this one say that the state is: arguments, environment or `.env`.
        folder = self.current_state.get("state_dir", self.settings_cls.model_fields["state_dir"].default)
        path = Path(folder) / "stack.json"
        try:
            recorded = json.loads(path.read_text()).get("settings", {})
        except (OSError, ValueError):
            return {}
        return {name: value for name, value in recorded.items() if name in self.settings_cls.model_fields}


class Settings(BaseSettings):
    """Surnia's settings. An address that is set is used as it is: never started, stopped or emptied."""

    model_config = SettingsConfigDict(
        env_prefix="SURNIA_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        validate_default=True,
        # What is refused may be an address with its password.
        hide_input_in_errors=True,
    )

    # Servers. Unset ones come from the local stack.
    postgres_url: SecretStr | None = Field(None, description="postgresql://user:password@host:port/database")
    databases: Annotated[tuple[DatabaseAddress, ...], NoDecode, BeforeValidator(read_addresses)] = Field(
        (),
        description='Where users and devices are, if not in postgres_url: JSON such as [{"name": "eu1", "shards": '
        '"0-255", "url": "postgresql://…", "replica": "postgresql://…"}]; every shard once, the replica (for scans) '
        "where there is one",
    )
    redis_url: SecretStr | None = Field(None, description="redis://host:port/0, of Redis 7+ or Valkey 8+")
    kafka_brokers: str | None = Field(None, description="host:port[,host:port…] of the Kafka brokers")
    state_dir: Path = Field(Path(".surnia"), description="State of the local stack: data, logs, ports, keys")

    # Topics.
    topic_prefix: str = Field("", pattern=r"^[a-z0-9._-]*$", description="Put before every topic's name")
    partitions: int = Field(8, ge=1, le=1024, description="Partitions of activity.events and of sends.*")
    replication: int = Field(1, ge=1, le=7, description="Replication factor of topics that Surnia creates")

    # Policy.
    default_time_zone: str = Field("UTC", description="For users whose time zone is not known")
    active_days: int = Field(7, ge=1, le=60, description="Local days after the last event a user counts as active")
    ladder_days: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (7, 14, 30, 60, 90), description="Days of silence with a comeback due"
    )
    send_hour: int = Field(18, ge=0, le=23, description="Local hour at which comebacks are due")
    spread_minutes: int = Field(
        60, ge=0, le=240, description="Minutes from the send hour on over which its comebacks are spread; 0: none"
    )
    daily_cap: int = Field(2, ge=1, le=7, description="Reminders a user and local date, over all kinds and paths")
    weekly_cap: int = Field(
        0, ge=0, le=49, description="Reminders a user and seven local dates, over all kinds and paths; 0: any number"
    )
    stop_after: int = Field(
        4, ge=0, le=1000, description="Comebacks without an answer after which a user is left alone; 0: never"
    )
    holdout: str = Field(
        "",
        description='Percent of users who get none of a kind, to measure what it is worth: "comeback=5,practice=1"',
    )
    holdout_salt: str = Field("", max_length=200, description="Another salt makes other holdout groups")
    quiet_start: int = Field(22, ge=0, le=23, description="Local hour at which quiet hours begin")
    quiet_end: int = Field(8, ge=0, le=23, description="Local hour at which quiet hours end")

    # Gate.
    gate_bucket_bits: int = Field(
        11,
        ge=0,
        le=16,
        description="2^n gate buckets a shard; aim at 50 to 100 users of a local date a bucket (11: 26 to 52 million)",
    )
    gate_keep_hours: int = Field(96, ge=48, description="Hours after its last write that a day of the gate is kept")

    gate_durable: bool = Field(
        False,
        description="The gate's servers keep every acknowledged write over a restart (AOF) and over a failover: "
        "a server that is not the one the gate was opened on is trusted then",
    )
    gate_auto_rebuild: bool = Field(False, description="Stream workers rebuild a gate that they find closed")
    outbox_seconds: float = Field(
        30.0, gt=0, description="Age at which a page that its planner has not finished is finished by another"
    )

    # Stream path.
    due_poll_seconds: float = Field(1.0, gt=0, description="How often a worker looks for reminders that are due")
    fire_concurrency: int = Field(
        4,
        ge=1,
        le=32,
        description="Pages of 1,000 users that a worker fires at once, each with a connection to PostgreSQL",
    )
    commit_seconds: float = Field(1.0, gt=0, description="How often a worker commits its Kafka offsets")
    web_port: Port = Field(0, description="Port of a worker's web server; 0: no web server")
    stuck_seconds: float = Field(
        300.0,
        gt=0,
        description="A worker is stuck, and restarts itself, where a partition with a backlog, or its event loop, has "
        "not moved for so long",
    )

    # Batch path.
    page_size: int = Field(1000, ge=10, le=10_000, description="Users a page of a scan")
    shard_groups: int = Field(
        4,
        ge=1,
        le=256,
        description="Mapped tasks that an hour's scan is divided into; each lasts the hour, mostly asleep",
    )
    scans_per_database: int = Field(
        2, ge=1, le=64, description="Scans that may read a database at once, of all processes, in Airflow or not"
    )
    scan_page_seconds: float = Field(
        0.25, gt=0, le=60, description="Time that reading a page may take before the scan makes its pages smaller"
    )
    scan_timeout_seconds: float = Field(
        5.0,
        ge=0.1,
        le=300,
        description="Time after which the database ends the reading of a page (statement_timeout)",
    )
    scan_lag_seconds: float = Field(
        10.0, gt=0, description="Lag of a replica above which the scans that read it slow down"
    )

    # Delivery.
    send_batch: int = Field(500, ge=1, le=500, description="Sends a Kafka message")
    routes_ios: str = Field(
        "apns,fcm,email",
        pattern=r"^(apns(,fcm)?|fcm(,apns)?)(,email)?$",
        description="Ways to iOS devices, in the order in which they are tried",
    )
    routes_android: str = Field("fcm,email", pattern=r"^fcm(,email)?$", description="Ways to Android devices")
    apns_url: str = Field("https://api.push.apple.com", description="Address of APNs (or of the simulator)")
    apns_topic: str = Field("com.example.app", description="The app's bundle id")
    apns_key_file: Path | None = Field(None, description="PEM file with the ES256 key of the provider token")
    apns_key_id: str = Field("", description="Key id of the provider token")
    apns_team_id: str = Field("", description="Team id of the provider token")
    fcm_url: str = Field("https://fcm.googleapis.com", description="Address of FCM (or of the simulator)")
    fcm_credentials_file: Path | None = Field(None, description="Service account JSON of the Firebase project")
    ca_file: Path | None = Field(None, description="PEM bundle to verify the providers with; unset: the system's")
    http_connections: int = Field(2, ge=1, le=64, description="HTTP/2 connections a provider and lane of a worker")
    push_timeout_seconds: float = Field(10.0, gt=0, description="Deadline of one request to a provider")
    apns_per_second: float = Field(0, ge=0, description="Pushes a second to APNs, of all workers; 0: any number")
    fcm_per_second: float = Field(
        10_000, ge=0, description="Pushes a second to FCM, of all workers; 0: any number. Google's limit: 10,000"
    )
    smtp_per_second: float = Field(14, ge=0, description="E-mails a second, of all workers; 0: any number")

    # E-mail, the last resort.
    email_last_minutes: float = Field(
        10,
        ge=0,
        description="Minutes before the end of its window at which a send whose providers are open goes by e-mail",
    )
    smtp_host: str = Field("", pattern=r"^[A-Za-z0-9.:-]*$", description="Mail server; empty: no e-mails are sent")
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = Field(
        587, description="Its port: 465 speaks TLS from the first byte, every other must offer STARTTLS"
    )
    smtp_username: str = Field("", description="Empty: the server asks for no login")
    smtp_password: SecretStr = Field(SecretStr(""), description="Password of smtp_username")
    smtp_connections: int = Field(4, ge=1, le=64, description="Connections to it, of each worker and lane")
    email_from: str = Field("", description='Sender, such as "Surnia <reminders@example.com>"')
    unsubscribe_url: str = Field(
        "", description="https address of the app that takes people off; the signed token is put in as parameter `t`"
    )
    unsubscribe_keys: SecretStr = Field(
        SecretStr(""),
        description="Secrets that unsubscribe links are signed with, 32 characters or more, comma-separated: the first "
        "signs, all are accepted",
    )

    # Ledger.
    ledger_keep_days: int = Field(90, ge=7, description="Local dates the ledger is kept")
    planned_keep_days: int = Field(14, ge=7, description="Local dates the planners' own record is kept for audits")
    erasure_key_days: int = Field(
        30,
        ge=1,
        description="Days for which what is left of an erased user can still be matched with messages in Kafka; must "
        "be longer than the topics keep them",
    )

    # Around the engine.
    clock_file: Path | None = Field(None, description="A virtual clock shared by processes; unset: the machine's clock")
    metrics_port: Port = Field(
        0, description="Port of a worker's /metrics, /healthz and /readyz; 0: none are served from a thread"
    )
    listen_host: str = Field("127.0.0.1", description="Address that metrics_port and web_port are opened on")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    log_json: bool = Field(False, description="Logs as JSON lines instead of for a reader")

    @field_validator("gate_keep_hours")
    @classmethod
    def _remembers_a_week(cls, hours: int, info: ValidationInfo) -> int:
        if info.data.get("weekly_cap") and hours < WEEK_HOURS:
            raise ValueError(
                f"a weekly cap needs a gate that remembers a week: set it to {WEEK_HOURS} or more, "
                "or SURNIA_WEEKLY_CAP to 0"
            )
        return hours

    @field_validator("holdout")
    @classmethod
    def _groups(cls, text: str) -> str:
        shares(text)
        return text

    @field_validator("default_time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name != "UTC" and name not in known_zones():
            raise ValueError("use an IANA time zone such as 'America/Sao_Paulo'")
        return name

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, StackSource(settings_cls)

    def require_postgres(self) -> str:
        """The database's address, for libpq."""
        if not self.postgres_url:
            raise MissingAddressError("postgres_url")
        return self.postgres_url.get_secret_value()

    def require_redis(self) -> str:
        """The gate's address."""
        if not self.redis_url:
            raise MissingAddressError("redis_url")
        return self.redis_url.get_secret_value()

    def require_kafka(self) -> str:
        """The brokers' addresses, comma-separated."""
        if not self.kafka_brokers:
            raise MissingAddressError("kafka_brokers")
        return self.kafka_brokers

    @property
    def sends_email(self) -> bool:
        """Whether there is a server to send e-mails with."""
        return bool(self.smtp_host)

    def clock(self) -> Clock:
        """The clock this process goes by."""
        return open_clock(self.clock_file)


class GivenSettings(Settings):
    """What the environment and `.env` name themselves, without the local stack's addresses."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings


def load_settings() -> Settings:
    """Read the settings: environment, then `.env`, then the running local stack."""
    return Settings()  # type: ignore[call-arg, unused-ignore]  # pydantic fills the fields from its sources
