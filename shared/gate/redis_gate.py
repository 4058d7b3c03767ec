"""The gate on Redis or Valkey: users grouped by shard, one script call a shard, all calls in one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from shared.gate.contract import Claim, GateUnavailableError, SendKey, Standing
from shared.gate.keys import bucket_key, tally_key
from shared.gate.value import standing
from shared.identity import SHARDS, bucket_of, shard_of
from shared.policy.kinds import KIND_BY_CODE, KINDS, Path
from shared.settings import Settings

_SCRIPTS = ("claim", "practised", "settle")
_USERS_A_CALL = 500
"""Keeps a script call near a millisecond, and its arguments far below Lua's unpack limit (8,000)."""

Place = tuple[int, date]
"""A gate bucket inside a shard: (bucket, local date)."""
Groups = dict[int, dict[Place, list[int]]]
"""Shard -> place -> positions in the caller's sequence."""


class RedisGate:
    """See `shared.gate.contract.Gate`; safe to share between the tasks of one event loop."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._bits = settings.gate_bucket_bits
        self._cap = settings.daily_cap
        self._keep = settings.gate_keep_hours * 3600
        self._shas: dict[str, str] = {}

    @classmethod
    def connect(cls, settings: Settings) -> RedisGate:
        """A gate at the address in the settings; connects at the first question."""
        return cls(connect_redis(settings), settings)

    async def close(self) -> None:
        await self._redis.aclose()

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        calls = []
        for shard, places in self._groups(marks):
            arguments: list[Any] = [self._keep]
            for positions in places.values():
                ids = {marks[position][0] for position in positions}
                arguments += [len(ids), *ids]
            calls.append(([bucket_key(shard, *place) for place in places], arguments))
        await self._call("practised", calls)

    async def claim(self, path: Path, keys: Sequence[SendKey]) -> list[Claim]:
        answers: list[Claim] = [Claim.granted] * len(keys)
        calls, orders = [], []
        for kind in {key.kind for key in keys}:
            mine = [position for position, key in enumerate(keys) if key.kind == kind]
            users = [(keys[position].user_id, keys[position].local_date) for position in mine]
            for shard, places in self._groups(users):
                arguments: list[Any] = [int(path), KINDS[kind].code, self._cap, self._keep]
                order: list[int] = []
                names: list[str] = []
                for place, positions in places.items():
                    order += [mine[position] for position in positions]
                    arguments += [len(positions), *(keys[mine[position]].user_id for position in positions)]
                    names += [bucket_key(shard, *place), tally_key(shard, place[1])]
                calls.append((names, arguments))
                orders.append(order)
        for order, digits in zip(orders, await self._call("claim", calls), strict=True):
            for position, digit in zip(order, digits.decode(), strict=True):
                answers[position] = Claim(int(digit))
        return answers

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        pipeline = self._redis.pipeline(transaction=False)
        orders: list[list[int]] = []
        for shard, places in self._groups([(key.user_id, key.local_date) for key in keys]):
            for place, positions in places.items():
                pipeline.hmget(bucket_key(shard, *place), [str(keys[position].user_id) for position in positions])
                orders.append(positions)
        answers = [Standing.unclaimed] * len(keys)
        for positions, values in zip(orders, await self._run(pipeline), strict=True):
            for position, value in zip(positions, values, strict=True):
                answers[position] = standing(int(value or 0), KINDS[keys[position].kind].code, path)
        return answers

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        calls = []
        for shard, places in self._groups([(key.user_id, key.local_date) for key in keys]):
            arguments: list[Any] = [int(path), self._keep]
            for positions in places.values():
                arguments.append(len(positions))
                for position in positions:
                    arguments += [keys[position].user_id, KINDS[keys[position].kind].code]
            calls.append(([bucket_key(shard, *place) for place in places], arguments))
        await self._call("settle", calls)

    async def granted(self, day: date) -> dict[tuple[Path, str], int]:
        """Claims granted on a local date by (path, kind), each send counted once; what the audit starts from."""
        pipeline = self._redis.pipeline(transaction=False)
        for shard in range(SHARDS):
            pipeline.hgetall(tally_key(shard, day))
        totals: dict[tuple[Path, str], int] = {}
        for tally in await self._run(pipeline):
            for field, n in tally.items():
                path, code = (int(part) for part in field.split(b":"))
                name = (Path(path), KIND_BY_CODE[code].name)
                totals[name] = totals.get(name, 0) + int(n)
        return totals

    def _groups(self, users: Sequence[tuple[int, date]]) -> Iterable[tuple[int, dict[Place, list[int]]]]:
        """Positions in `users` by shard and place, at most `_USERS_A_CALL` of them at a time."""
        groups: Groups = {}
        for position, (user_id, day) in enumerate(users):
            place = (bucket_of(user_id, self._bits), day)
            groups.setdefault(shard_of(user_id), {}).setdefault(place, []).append(position)
        for shard, places in groups.items():
            part: dict[Place, list[int]] = {}
            size = 0
            for place, positions in places.items():
                for start in range(0, len(positions), _USERS_A_CALL):
                    piece = positions[start : start + _USERS_A_CALL]
                    if size + len(piece) > _USERS_A_CALL:
                        yield shard, part
                        part, size = {}, 0
                    part[place] = piece
                    size += len(piece)
            if part:
                yield shard, part

    async def _call(self, script: str, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        """Run a script once for each (keys, arguments), in one round trip."""
        if not calls:
            return []
        for attempt in (1, 2):
            pipeline = self._redis.pipeline(transaction=False)
            sha = self._shas.get(script) or await self._load(script)
            for names, arguments in calls:
                pipeline.evalsha(sha, len(names), *names, *arguments)
            try:
                return await self._run(pipeline)
            except NoScriptError:
                # The server restarted and forgot it. Repeating is harmless: own claims are granted again.
                self._shas.pop(script, None)
                if attempt == 2:
                    raise GateUnavailableError(f"the gate keeps losing its script {script!r}") from None
        raise AssertionError("unreachable")

    async def _load(self, script: str) -> str:
        if script not in _SCRIPTS:
            raise ValueError(f"no such script: {script}")
        source = (files("shared.gate") / "lua" / f"{script}.lua").read_text()
        try:
            sha: str = await self._redis.script_load(source)
        except (RedisError, OSError) as error:
            raise GateUnavailableError(f"the gate does not answer: {error}") from error
        self._shas[script] = sha
        return sha

    async def _run(self, pipeline: Any) -> list[Any]:
        try:
            answers: list[Any] = await pipeline.execute()
        except NoScriptError:
            raise
        except (RedisError, OSError) as error:
            raise GateUnavailableError(f"the gate does not answer: {error}") from error
        return answers


def connect_redis(settings: Settings) -> Redis:
    """A client for the address in the settings: bounded waits, no decoding."""
    return Redis.from_url(
        settings.require_redis(), socket_timeout=5.0, socket_connect_timeout=2.0, health_check_interval=15
    )
