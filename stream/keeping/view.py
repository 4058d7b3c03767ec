"""The gate's status and a rebuild's account, for people and for programs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shared.gate import Claim
from shared.gate.pauses import what
from shared.identity import SHARDS
from shared.policy.kinds import Path
from shared.terminal import size
from stream.keeping.account import Rebuilt
from stream.keeping.status import GateStatus

_EPOCH = re.compile(r"epoch:\{\d+\}")
_BRANDING = re.compile(r"^the gate is closed: |; run `surnia gate rebuild`$")


def document(found: GateStatus) -> dict[str, Any]:
    """As JSON."""
    day = found.day
    return {
        "open": not found.closed,
        "closed_shards": {str(shard): why for shard, why in found.closed.items()},
        "epochs": [
            {"name": name, "run_id": run_id, "shards": shards} for (name, run_id), shards in found.epochs.items()
        ],
        "pauses": sorted(rule.text() for rule in found.rules),
        "pauses_agree": found.rules_agree,
        "servers": {name: server._asdict() for name, server in found.servers.items()},
        "memory_bytes": {each.isoformat(): n for each, n in found.memory_bytes.items()},
        "day": {
            "local_date": day.day.isoformat(),
            "exact": day.looked_at == day.buckets,
            "buckets": day.buckets,
            "looked_at": day.looked_at,
            "users": day.users,
            "practised": day.practised,
            "memory_bytes": day.memory_bytes,
            "bytes_a_claim": day.bytes_a_claim and round(day.bytes_a_claim, 2),
            "bytes_a_user": day.bytes_a_user and round(day.bytes_a_user, 2),
            "claims": [{"kind": kind, "path": path, **held._asdict()} for (kind, path), held in day.claims.items()],
            "opted_out": day.opted_out,
        },
        "answers": [
            {"path": path.name, "kind": kind, "answer": answer.name, "n": n}
            for (path, kind, answer), n in sorted(found.answers.items())
        ],
        "due": {kind: {"entries": entries, "due_now": now} for kind, (entries, now) in found.due.items()},
    }


def shown(found: GateStatus) -> RenderableType:
    """For a person."""
    parts: list[RenderableType] = [*_doors(found), _servers(found), Text(), *_day(found)]
    if found.answers:
        parts += [Text(), _answers(found)]
    parts += [Text(), _due(found)]
    return Group(*parts)


def _doors(found: GateStatus) -> Iterator[Text]:
    if found.closed:
        yield Text(f"The gate is CLOSED for {len(found.closed)} of {SHARDS} shards: nothing is sent there.", "bold red")
        reasons = Counter(_BRANDING.sub("", _EPOCH.sub("its epoch", why)) for why in found.closed.values())
        for why, n in reasons.most_common():
            yield Text(f"  {n} × {why}")
        yield Text("  To open it: surnia gate rebuild", "bold")
    else:
        yield Text(f"The gate is open, all {SHARDS} shards.", "bold green")
    for (name, run_id), n in sorted(found.epochs.items()):
        yield Text(f"  epoch {name}, opened on server {run_id or '(any)'}: {n} shards")
    for rule in sorted(found.rules, key=what):
        yield Text(f"  paused: {what(rule)}", "yellow")
    if not found.rules_agree:
        yield Text("  Not every shard has the same pauses: surnia pause or resume once more writes them all.", "bold")


def _servers(found: GateStatus) -> Table:
    table = _table("server", "run id", "memory used")
    for name, server in found.servers.items():
        table.add_row(name, server.run_id, size(server.memory_bytes))
    return table


def _day(found: GateStatus) -> Iterator[RenderableType]:
    day = found.day
    how = "all buckets read" if day.looked_at == day.buckets else (
        f"estimated from {day.looked_at:,} of {day.buckets:,} buckets; --exact reads all"
    )  # fmt: skip
    yield Text(f"Local date {day.day}: {day.users:,} users, {day.practised:,} of them practised ({how})")
    table = _table("kind", "path", "claimed", "settled")
    for (kind, path), held in day.claims.items():
        table.add_row(kind, path, f"{held.claimed:,}", f"{held.settled:,}")
    if day.claims:
        yield table
    if day.opted_out:
        yield Text("Opted out: " + ", ".join(f"{n:,} of {kind}" for kind, n in day.opted_out.items()))
    each = [f"{size(day.memory_bytes)} for that date"]
    if day.bytes_a_claim and day.bytes_a_user:
        each += [f"{day.bytes_a_claim:.1f} B a claim", f"{day.bytes_a_user:.1f} B a user"]
    total = sum(found.memory_bytes.values())
    yield Text(
        f"Memory: {', '.join(each)}; {size(total)} for {len(found.memory_bytes)} dates, without campaigns' lists"
    )


def _answers(found: GateStatus) -> Table:
    """Hit rates: how planners' questions of the date were answered, in percent."""
    totals: Counter[tuple[Path, str]] = Counter()
    for (path, kind, _), n in found.answers.items():
        totals[path, kind] += n
    answers = [answer for answer in Claim if any(answer is each for _, _, each in found.answers)]
    table = _table("path", "kind", "claims asked", *(answer.name.replace("_", " ") for answer in answers))
    for (path, kind), total in sorted(totals.items()):
        rates = (found.answers.get((path, kind, answer), 0) / total for answer in answers)
        table.add_row(path.name, kind, f"{total:,}", *(f"{rate:.1%}" for rate in rates))
    return table


def _due(found: GateStatus) -> Table:
    table = _table("due index", "entries", "due now")
    for kind, (entries, now) in found.due.items():
        table.add_row(kind, f"{entries:,}", f"{now:,}")
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        numbers = heading not in ("server", "run id", "kind", "path", "due index")
        table.add_column(heading, justify="right" if numbers else "left", no_wrap=True)
    return table


def account(done: Rebuilt) -> str:
    """What a rebuild came to, for a person."""
    if not done.shards:
        return "The gate is open: there is nothing to rebuild (--all rebuilds it all the same)."
    lines = [f"Read {', '.join(f'{n:,} {what}' for what, n in done.read.items())} in {done.seconds:.1f} s."]
    lines.append(
        f"Found {done.settled:,} sends that were shown, {done.claimed:,} that were claimed, {done.marks:,} days with "
        f"practice, {done.opt_outs:,} users who opted out."
    )
    if done.dry_run:
        still = f"{len(done.still_closed)} of {SHARDS} shards are closed" if done.still_closed else "the gate is open"
        return "\n".join([*lines, f"Dry run: nothing was written; {still}."])
    lines.append(
        f"Wrote {done.changed:,} values that were missing; scheduled {done.reminders:,} users' reminders and "
        f"{done.timers:,} timers of started lessons."
    )
    if done.attempts > 1:
        lines.append(f"The data was lost again meanwhile: {done.attempts} attempts.")
    if done.still_closed:
        lines.append(
            f"{len(done.still_closed)} shards are STILL CLOSED: their data was lost again each time. Find out who "
            "empties or restarts the server, then run `surnia gate rebuild` again."
        )
    opened = len(done.shards) - len(done.still_closed)
    if opened:
        lines.append(f"Opened {opened} of {SHARDS} shards, epoch {done.epoch}.")
    return "\n".join(lines)
