"""Whether the credentials still work: a run that has lost them stops sending, and says after which request."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from testops_lib.execute.wire import Wire
from testops_lib.gate import LOCKED_OUT
from testops_lib.model import SAFE_METHODS, Contract, Request, Step

_UNAUTHORIZED: Final = 401
_MOST_WITNESSES: Final = 3
_MOST_LOOKS: Final = 3
"""At one operation's answers, for each user: some answer 401 now and then by themselves."""
_TOUCHING: Final = re.compile(
    r"(?i)pass(word|wd|phrase|code)?\b|credential|token|session|account|user|member|profile|auth|/(me|self|my|own|current)\b"
    r"|log[-_]?(in|out|off)|sign[-_]?(in|out)|key|mfa|2fa|otp|email|secret|role|permission|revoke|rotate"
)
"""Paths of requests that may touch the session or the account of whoever sends them."""

Probe = Callable[[Request, Wire], Awaitable[int]]
"""Sends a request with the user's credentials as they are now; its status, 0 without an answer."""


class Lockout:
    """What a run knows of its users' credentials. `who`: the name of an identity."""

    def __init__(self, contracts: Mapping[str, Contract]) -> None:
        self._protected = {key for key, contract in contracts.items() if contract.protected}
        self._witnesses: dict[str, dict[str, tuple[Request, Wire]]] = defaultdict(dict)
        """Reads that need credentials and succeeded, by operation."""
        self._suspects: dict[str, list[str]] = defaultdict(list)
        self._looks: Counter[tuple[str, str]] = Counter()
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._lost: dict[str, str] = {}

    def lost(self, who: str) -> str:
        """Why the user's credentials are not sent any more; "" while they work."""
        return self._lost.get(who, "")

    async def note(self, who: str, step: Step, wire: Wire, status: int, probe: Probe) -> str:
        """Takes down an answer to a request with the user's credentials, and looks where it puts them in doubt; why
        they are lost, or "".
        """
        doubtful = status == _UNAUTHORIZED
        if 200 <= status < 300 and wire.method not in SAFE_METHODS:
            self._suspects[who].append(f"{step.operation} answered {status}")
            doubtful = _TOUCHING.search(step.operation) is not None and not self._looks[who, step.operation]
        elif 200 <= status < 300 and wire.method == "GET" and step.operation in self._protected:
            known = self._witnesses[who]
            if step.operation not in known and len(known) < _MOST_WITNESSES:
                known[step.operation] = step.request, wire
        if not doubtful or not self._witnesses[who] or self._looks[who, step.operation] >= _MOST_LOOKS:
            return self.lost(who)
        return await self._look(who, step.operation, probe)

    async def _look(self, who: str, operation: str, probe: Probe) -> str:
        async with self._locks[who]:
            if who in self._lost:
                return self._lost[who]
            self._looks[who, operation] += 1
            suspects = [*self._suspects[who]]
            statuses = []
            for request, wire in list(self._witnesses[who].values()):
                statuses.append(await probe(request, wire))
                if statuses[-1] == _UNAUTHORIZED:
                    self._lost[who] = _in_words(who, suspects)
                    return self._lost[who]
            if any(200 <= status < 300 for status in statuses):
                del self._suspects[who][: len(suspects)]
            return ""


def _in_words(who: str, suspects: list[str]) -> str:
    touching = [suspect for suspect in suspects if _TOUCHING.search(suspect)]
    cause = (touching or suspects)[-1:]
    after = f"after {cause[0]}" if cause else "though nothing was sent that explains it: they ended or were revoked"
    return f"{LOCKED_OUT}: the credentials of {who or 'the user'} worked and stopped working, {after}"
