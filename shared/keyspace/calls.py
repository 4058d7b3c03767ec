"""What is asked of a shard: a command, or a script with its keys."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple

from hiredis import pack_command

Argument = str | bytes | int | float


class Script:
    """A Lua script, called by its hash; a server that does not know it yet is taught.

    A guarded one is told the guard of the server it runs on (`node.py`), as ARGV[1]: what it needs to find out that the
    data it sees was vouched for on another one (`shared/gate/lua/door.lua`).
    """

    __slots__ = ("guarded", "name", "sha", "source")

    def __init__(self, name: str, source: str, *, guarded: bool = False) -> None:
        self.name = name
        self.source = source
        self.guarded = guarded
        self.sha = sha1(source.encode()).hexdigest()  # noqa: S324  # Redis names scripts by it

    @classmethod
    def read(cls, package: str, name: str) -> Script:
        """An unguarded script from the folder `lua` of a package."""
        return cls(name, (files(package) / "lua" / f"{name}.lua").read_text())


class Call(NamedTuple):
    """A command for the server that holds a shard: with a script its keys and arguments, else the command's words."""

    shard: int
    arguments: Sequence[Argument]
    script: Script | None = None
    keys: Sequence[str] = ()

    def packed(self, guard: str) -> bytes:
        """As it goes over the wire to the server of that guard."""
        if self.script is None:
            return _pack(tuple(self.arguments))
        head = (guard,) if self.script.guarded else ()
        return _pack(("EVALSHA", self.script.sha, len(self.keys), *self.keys, *head, *self.arguments))


def _pack(words: tuple[Argument, ...]) -> bytes:
    return pack_command(words)  # type: ignore[arg-type,no-any-return,unused-ignore]  # its stub wants all words to be of one type


Answer = Any
"""What the server said; an error it answered with is a `ResponseError` in the list of answers, not raised."""
