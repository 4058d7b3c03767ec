"""Up, down and status of the local stack, for the command line, the demo and the tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.stack import process
from infra.stack.errors import PartError, StackError
from infra.stack.kafka import MOCK_VERSION, Kafka
from infra.stack.part import Part, process_of
from infra.stack.postgres import Postgres
from infra.stack.state import PartRecord, StackState, StateStore, exclusive
from infra.stack.status import PartStatus, StackStatus, shown_address, status_of_given, status_of_ours
from infra.stack.valkey import Valkey

if TYPE_CHECKING:
    from shared.settings import Settings

PART_NAMES = ("postgres", "valkey", "kafka")
_KINDS: dict[str, type[Part]] = {"postgres": Postgres, "valkey": Valkey, "kafka": Kafka}

Progress = Callable[[str, str, bool], None]
"""Called with a part's name, what it is doing, and whether that was the last word."""


class Stack:
    """The local stack of one state folder. Many can run on one machine.

    Given settings, addresses they name themselves are used as they are; given only a folder, every part is ours.
    """

    def __init__(self, settings_or_state_dir: Settings | Path | str) -> None:
        if isinstance(settings_or_state_dir, Path | str):
            self._settings: Settings | None = None
            folder = Path(settings_or_state_dir)
        else:
            self._settings = settings_or_state_dir
            folder = settings_or_state_dir.state_dir
        self.store = StateStore(folder)
        self.state_dir = self.store.state_dir
        self.parts: dict[str, Part] = {name: kind(self.store) for name, kind in _KINDS.items()}

    def addresses(self) -> dict[str, str]:
        """Settings' names and addresses, passwords included, of the parts that were brought up or given."""
        return {**self.store.read().settings, **{self.parts[name].setting: at for name, at in self._given().items()}}

    def settings(self) -> Settings:
        """Settings with this stack's addresses filled in, whatever SURNIA_STATE_DIR says."""
        from shared.settings import GivenSettings

        named: dict[str, Any] = {}
        if self._settings is not None:
            named = {key: getattr(self._settings, key) for key in self._settings.model_fields_set}
        # A part that is not up has no address: neither the environment's nor another stack's may slip in.
        none: dict[str, Any] = {part.setting: None for part in self.parts.values()}
        if self._settings is None:
            none["databases"] = ()  # Ours alone, as a bench's: the users' own databases are no part of it.
        return GivenSettings(**{**named, "state_dir": self.state_dir, **none, **self.addresses()})

    def up(
        self,
        fresh: bool = False,
        console: Any = None,
        parts: Iterable[str] = PART_NAMES,
        progress: Progress | None = None,
    ) -> StackStatus:
        """Start what is not running, wait until it answers, create topics and tables.

        `fresh` ends our own servers and empties their data first. `console` is a rich console that shows progress.
        """
        wanted = _checked(parts)
        if progress is None:
            if console is not None:
                from infra.stack.view import watching

                with watching(console, {name: self.parts[name].title for name in wanted}) as shown:
                    return self._up(fresh, wanted, shown)
            progress = _unheard
        return self._up(fresh, wanted, progress)

    def down(self) -> dict[str, bool]:
        """End exactly our processes and keep their data; says for each part whether it had been running."""
        if not self.store.path.exists():
            return {}
        with exclusive(self.state_dir / "stack.lock"):
            return self._end(PART_NAMES)

    def remove(self) -> None:
        """End our processes and delete their data, also what lies outside of STATE_DIR; for tests and demos."""
        if self.store.path.exists():
            with exclusive(self.state_dir / "stack.lock"):
                self._empty(PART_NAMES)

    def status(self) -> StackStatus:
        """Ask every server how it is."""
        state = self.store.read()
        given = self._given(state)

        def ask(name: str) -> PartStatus:
            if name in given:
                return status_of_given(self.parts[name], given[name])
            return status_of_ours(self.parts[name], state.parts.get(name))

        with ThreadPoolExecutor(max_workers=len(PART_NAMES)) as pool:
            found = list(pool.map(ask, PART_NAMES))
        return StackStatus(str(self.state_dir), {part.name: part for part in found})

    def _up(self, fresh: bool, wanted: tuple[str, ...], progress: Progress) -> StackStatus:
        self.store.prepare()

        def waiting() -> None:
            for name in wanted:
                progress(name, "another `surnia up` or `down` is at work here, waiting for it", False)

        with exclusive(self.state_dir / "stack.lock", waiting):
            given = self._given()
            if fresh:
                self._empty(tuple(name for name in wanted if name not in given))
            return self._bring_all(wanted, given, progress)

    def _bring_all(self, wanted: tuple[str, ...], given: dict[str, str], progress: Progress) -> StackStatus:
        """All parts side by side; the errors of those that failed once the others are up."""
        errors: list[StackError] = []
        found: dict[str, tuple[PartStatus, bool]] = {}

        def bring(name: str) -> None:
            try:
                found[name] = self._bring(name, given.get(name), progress)
                return
            except StackError as error:
                errors.append(error)
            except OSError as error:
                problem = f"{error}. Check the disk's space and who owns {self.state_dir}."
                errors.append(PartError(self.parts[name].title, problem))
            progress(name, "failed", True)

        # Daemons, so that Ctrl-C ends the command at once instead of after the slowest part.
        threads = [threading.Thread(target=bring, args=(name,), name=f"up-{name}", daemon=True) for name in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0] if len(errors) == 1 else StackError("\n".join(str(error) for error in errors))
        if missing := [name for name in wanted if name not in found]:
            raise StackError(f"Starting {', '.join(missing)} failed unexpectedly: see the traceback above.")
        gate, opened = self._gate(wanted, "valkey" in given, progress)
        changed = opened or any(was_changed for _, was_changed in found.values())
        return StackStatus(str(self.state_dir), {name: found[name][0] for name in wanted}, changed, gate)

    def _gate(self, wanted: tuple[str, ...], given: bool, progress: Progress) -> tuple[str, bool]:
        """Open the gate of our own Valkey if it is closed, as a new one is and one that restarted; of a given one only
        tell. What is to be said, and whether it was opened."""
        if set(wanted) != set(PART_NAMES):
            return "", False  # It is rebuilt from all of them.
        from infra.stack.gate import ask, closed_note, closed_shards, open_as_new, open_it

        settings = self.settings()
        if given:
            shards = ask(settings)
            return closed_note(shards) if shards else "", False
        port, password = self.parts["valkey"].record().port or 0, self.store.secret("valkey")
        if not closed_shards(port, password, durable=settings.gate_durable):
            return "", False
        progress("valkey", "rebuilding the gate", False)
        try:
            if self.parts["kafka"].record().version == MOCK_VERSION:
                open_as_new(settings)
                return "The gate has been opened as new: a mock broker remembers nothing to rebuild it from.", True
            done = open_it(settings)
        except Exception as error:
            progress("valkey", "failed", True)
            raise StackError(
                f"All servers are up, but the gate stays closed and nothing is sent: {error}\n"
                "Run `surnia gate rebuild` to see more, or `surnia up` again."
            ) from error
        progress("valkey", "gate open", True)
        sends = done.claimed + done.settled
        return f"The gate was closed and has been rebuilt: {sends:,} sends, {done.marks:,} days with practice.", True

    def _bring(self, name: str, given: str | None, progress: Progress) -> tuple[PartStatus, bool]:
        """One part up and prepared; and whether anything had to be done for it."""
        part = self.parts[name]

        def report(text: str) -> None:
            progress(name, text, False)

        if given is not None:
            report(f"asking {shown_address(given)}")
            status = status_of_given(part, given)
            if not status.healthy:
                raise PartError(part.title, f"{status.address} {status.note}. {status.remedy}")
            # Always: we do not know what was done to somebody else's server since.
            done = self._prepare(part, given, report)
            progress(name, f"given by address{done and ', '}{done}", True)
            return status, False

        started = not self._answers(part, report)
        address = part.start(report) if started else part.address(part.record())
        if self.store.read().settings.get(part.setting) != address:
            self.store.change(lambda state: state.settings.update({part.setting: address}))
        done = self._prepare_once(part, address, report)
        record = part.record()
        progress(name, f"{'up' if started else 'was up'}, {record.version}{done and ', '}{done}", True)
        return status_of_ours(part, record, ask=False), started or bool(done)

    def _answers(self, part: Part, report: Callable[[str], None]) -> bool:
        """Whether our server runs and answers; one that runs and stays silent is ended."""
        record = part.record()
        running = process_of(record)
        if running is None:
            return False
        if process.is_alive(running):
            try:
                part.check(part.address(record))
                return True
            except Exception:  # clients raise many kinds; what counts is whether it answers in the end
                report("runs but does not answer yet")
                try:
                    part.wait(running)
                    return True
                except StackError:
                    report("does not answer, ending it")
        # Also for a dead one: what its group left behind would be in the new server's way.
        part.stop(record)
        return False

    def _prepare_once(self, part: Part, address: str, report: Callable[[str], None]) -> str:
        """`_prepare`, unless a former `up` did it with the same code and settings; gives what was done."""
        if part.name == "valkey" or part.record().version == MOCK_VERSION:
            return ""
        from infra.stack.prepare import fingerprint

        mark = fingerprint(part.name, self.settings())
        if self.store.read().prepared.get(part.name) == mark:
            return ""
        done = self._prepare(part, address, report)
        self.store.change(lambda state: state.prepared.update({part.name: mark}))
        return done

    def _prepare(self, part: Part, address: str, report: Callable[[str], None]) -> str:
        """Create missing tables or topics; gives what was done, in words."""
        from pydantic import SecretStr

        from infra.stack.prepare import create_topics, migrate

        if part.name == "postgres":
            report("bringing tables up to date")
            return migrate(self.settings().model_copy(update={"postgres_url": SecretStr(address)}))
        if part.name == "kafka":
            report("creating topics")
            return create_topics(self.settings().model_copy(update={"kafka_brokers": address}))
        return ""

    def _end(self, names: Iterable[str], *, discard: bool = False) -> dict[str, bool]:
        state = self.store.read()
        mine = [name for name in names if name in state.parts]
        settings = [self.parts[name].setting for name in mine]

        # Addresses go first: nobody should be led to a server that is about to end.
        def forget(now: StackState) -> None:
            for setting in settings:
                now.settings.pop(setting, None)

        self.store.change(forget)
        if not mine:
            return {}
        with ThreadPoolExecutor(max_workers=len(mine)) as pool:
            ended = list(pool.map(lambda name: self.parts[name].stop(state.parts[name], discard=discard), mine))
        return dict(zip(mine, ended, strict=True))

    def _empty(self, names: tuple[str, ...]) -> None:
        state = self.store.read()
        self._end(names, discard=True)
        for name in names:
            self.parts[name].empty(state.parts.get(name, PartRecord()))

        def forget(now: StackState) -> None:
            for name in names:
                now.prepared.pop(name, None)
                if name in now.parts:
                    now.parts[name].data = ""

        self.store.change(forget)

    def _given(self, state: StackState | None = None) -> dict[str, str]:
        """Addresses the settings name themselves, by part."""
        if self._settings is None:
            return {}
        recorded = (state or self.store.read()).settings
        found: dict[str, str] = {}
        for name, part in self.parts.items():
            value = getattr(self._settings, part.setting)
            if value is None:
                continue
            address = str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
            # `load_settings()` fills in our own recorded addresses: those are not somebody else's.
            if address and address != recorded.get(part.setting):
                found[name] = address
        return found


def _checked(parts: Iterable[str]) -> tuple[str, ...]:
    wanted = tuple(parts)
    if unknown := [name for name in wanted if name not in PART_NAMES]:
        raise StackError(f"No such part: {', '.join(unknown)}. There are {', '.join(PART_NAMES)}.")
    return wanted


def _unheard(*_: object) -> None:
    return
