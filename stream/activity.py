"""The activity agent: decode, fold, write through the gate. Thin on purpose; the rules are in `effects`."""

from __future__ import annotations

from collections.abc import Sequence

from faust.types import EventT

from shared.wire.events import decode_event
from stream.effects import Effects, effects_of
from stream.erasure import deletions, erase
from stream.readable import readable
from stream.runtime import Runtime


async def handle_events(runtime: Runtime, batch: Sequence[EventT[bytes]]) -> Effects:
    """Handle a batch of raw messages in the order of their partition; returns when all of it is written."""
    now = runtime.clock.now()
    events = await readable(runtime, batch, lambda raw: decode_event(raw, now))
    zoneless = [event.user_id for event in events if not event.time_zone]
    zones: dict[int, str] = {}
    if zoneless:
        zones = await runtime.patience.until_done("looking up time zones", lambda: runtime.writeback.zones(zoneless))
    effects = effects_of(events, zones, runtime.settings.default_time_zone)
    # Before all that is written: what a user did after the deletion stays.
    if effects.deleted:
        await erase(runtime, deletions(batch, now))
    # The gate first: from here on nobody who practised is reminded, whatever else has to wait.
    await runtime.patience.until_done(
        "marking practice at the gate", lambda: runtime.gate.practised(effects.marks(now))
    )
    if wishes := effects.opt_outs(now):
        await runtime.patience.until_done("telling the gate of opt-outs", lambda: runtime.gate.opt_out(wishes))
    await runtime.patience.until_done(
        "updating the due index", lambda: runtime.due.update(effects.practised(runtime.quiet), effects.started())
    )
    await runtime.patience.until_done("writing activity back", lambda: runtime.writeback.write(effects))
    return effects
