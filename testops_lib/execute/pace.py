"""How much may still be sent, and how soon: the request budget, the time budget and the smooth rate."""

from __future__ import annotations

import asyncio
import time


class Budget:
    """Counts requests against a limit that holds exactly; a case reserves what it is made of before it starts."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.limited = limit > 0
        self._spent = self._reserved = 0
        self._changed: asyncio.Event | None = None

    @property
    def spent(self) -> int:
        return self._spent

    @property
    def used_up(self) -> bool:
        """All that may be spent was spent."""
        return self.limited and self._spent >= self._limit

    async def reserve(self, count: int) -> bool:
        """Whether `count` requests are now set aside; waits while running cases may still give theirs back."""
        if not self._limit:
            return True
        while self._spent + self._reserved + count > self._limit:
            if not self._reserved or self._spent + count > self._limit:
                return False
            if self._changed is None:
                self._changed = asyncio.Event()
            await self._changed.wait()
        self._reserved += count
        return True

    def hold(self, wanted: int, besides: int = 0, held: int = 0) -> int:
        """How many more requests are now kept back, until `release`: of those wanted no more than a fifth of all.

        Of what is wanted besides no more than a fiftieth. `held`: as many are kept back already.
        """
        whole = self._limit + held
        more = max(0, min(wanted + min(besides, whole // 50), whole // 5) - held)
        self._limit -= more
        return more

    def keep(self, wanted: int) -> int:
        """Keeps back the wanted requests, or as many as nobody has reserved, until `release`; gives their number."""
        if not self._limit:
            return 0
        kept = max(0, min(wanted, self._limit - self._spent - self._reserved))
        self._limit -= kept
        return kept

    def release(self, held: int) -> None:
        """What was kept back may be spent."""
        self._limit += held

    def affords(self, count: int) -> bool:
        """Whether at least `count` requests are neither spent nor reserved."""
        return not self._limit or self._spent + self._reserved + count <= self._limit

    def extra(self) -> bool:
        """Reserves one more request, if one is left."""
        if not self._limit:
            return True
        if self._spent + self._reserved >= self._limit:
            return False
        self._reserved += 1
        return True

    def spend(self, count: int) -> None:
        """`count` of the reserved requests went out."""
        self._spent += count
        if self._limit:
            self._reserved -= count

    def give_back(self, count: int) -> None:
        """`count` reserved requests will not be sent."""
        if self._limit:
            self._reserved -= count
            if self._changed is not None:
                self._changed.set()
                self._changed = None


class Pace:
    """Spreads requests evenly: never two closer than 1/rate seconds, and no burst after a pause."""

    def __init__(self, per_second: float) -> None:
        self._next = 0.0
        self.limit(per_second)

    def limit(self, per_second: float) -> None:
        """Another rate from the next booking on; 0: none."""
        self.limited = per_second > 0
        self._gap = 1 / per_second if per_second > 0 else 0.0

    def wait_s(self) -> float:
        """Books the next free moment and says how far away it is; 0 without a limit."""
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + self._gap
        return at - now
