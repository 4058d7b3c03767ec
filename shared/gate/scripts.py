"""The gate's scripts, read once a process by whoever makes a gate."""

from __future__ import annotations

from importlib.resources import files

from shared.keyspace import Script

_ASKS = ("claim", "campaign_claim", "standing", "campaign_standing", "practised", "opt_out")
_SETTLES = ("settle", "campaign_settle")
_KEEPS = ("begin", "open", "rules", "stamp")
_RESTORES = ("restore", "campaign_restore")


def asking() -> dict[str, Script]:
    """What the paths and delivery ask, each behind the door."""
    door = _read("door")
    # The first line makes a replica, or a server that is out of memory, refuse the whole script at its start. Settling
    # is let through when memory is out: what was shown must be known.
    found = {name: Script(name, f"#!lua\n{door}\n{_read(name)}", guarded=True) for name in _ASKS}
    return found | {
        name: Script(name, f"#!lua flags=allow-oom\n{door}\n{_read(name)}", guarded=True) for name in _SETTLES
    }


def keeping() -> dict[str, Script]:
    """What a rebuild and the pauses need."""
    found = {name: Script(name, f"#!lua\n{_read(name)}", guarded=True) for name in _KEEPS}
    return found | {name: Script(name, f"#!lua\n{_read(name)}") for name in _RESTORES}


def _read(name: str) -> str:
    return (files("shared.gate") / "lua" / f"{name}.lua").read_text()
