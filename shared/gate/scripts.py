"""The gate's scripts, read once a process by whoever makes a gate."""

from __future__ import annotations

from importlib.resources import files

from shared.keyspace import Script

_ASKS = ("claim", "campaign_claim", "practised", "opt_out", "forget")
_DELIVERS = ("standing", "campaign_standing", "settle", "campaign_settle", "pauses")
_KEEPS = ("begin", "open", "rules", "stamp")
_RESTORES = ("restore", "campaign_restore")


def asking() -> dict[str, Script]:
    """What the paths and delivery ask, each behind the door."""
    before = door()
    # The first line makes a replica, or a server that is out of memory, refuse the whole script at its start. Delivery
    # is let through when memory is out: what was claimed is sent, and what was shown must be known. Those that only
    # read do not say so (no-writes): a replica would answer them.
    found = {name: Script(name, f"#!lua\n{before}\n{_read(name)}", guarded=True) for name in _ASKS}
    return found | {
        name: Script(name, f"#!lua flags=allow-oom\n{before}\n{_read(name)}", guarded=True) for name in _DELIVERS
    }


def door() -> str:
    """What every script that asks the gate begins with: where its data is not vouched for, it goes no further."""
    return _read("door")


def keeping() -> dict[str, Script]:
    """What a rebuild and the pauses need."""
    found = {name: Script(name, f"#!lua\n{_read(name)}", guarded=True) for name in _KEEPS}
    return found | {name: Script(name, f"#!lua\n{_read(name)}") for name in _RESTORES}


def _read(name: str) -> str:
    return (files("shared.gate") / "lua" / f"{name}.lua").read_text()
