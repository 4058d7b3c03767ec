"""What commands of both paths have in common: who types, what may be typed as a line of text, and sizes for people."""

from __future__ import annotations

import getpass
import os
import socket

import typer


def myself() -> str:
    """Who types: user@host, as far as this machine knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A container's user may have no name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def one_line(text: str, option: str, most: int) -> str:
    """A reason or a name: one line that can be printed."""
    text = text.strip()
    if not text or len(text) > most or not text.isprintable():
        raise typer.BadParameter(f"one line of 1–{most} printable characters", param_hint=option)
    return text


def several(count: int, noun: str) -> str:
    """1 message, 2 messages."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes the way a person says them."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
