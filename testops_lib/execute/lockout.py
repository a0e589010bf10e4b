"""Whether the credentials still work: a run that has lost them stops sending, and says after which request."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from testops_lib.http.request import PreparedRequest
from testops_lib.model import SAFE_METHODS, Contract, Request, Step
from testops_lib.verdict.reasons import LOCKED_OUT

_UNAUTHORIZED: Final = 401
_MOST_WITNESSES: Final = 3
_MOST_LOOKS: Final = 3
"""For one operation and user: some operations answer 401 now and then by themselves."""
_MOST_SUSPECTS: Final = 20
_MOST_NAMED: Final = 5
_TOUCHING: Final = re.compile(
    r"(?i)pass(word|wd|phrase|code)?\b|credential|token|session|account|user|member|profile|auth(?!or)|/(me|self|my|own|current)\b"
    r"|log[-_]?(in|out|off)|sign[-_]?(in|out)|key|mfa|2fa|otp|email|secret|role|permission|revoke|rotate"
)
"""Paths of requests that may touch the session or the account of whoever sends them."""

Probe = Callable[[Request, PreparedRequest], Awaitable[int]]
"""Sends a request with the user's credentials as they are now; its status, 0 without an answer."""


class Lockout:
    """What a run knows of its users' credentials. `who`: the name of an identity."""

    def __init__(self, contracts: Mapping[str, Contract]) -> None:
        self._protected = {key for key, contract in contracts.items() if contract.protected}
        self._witnesses: dict[str, dict[str, tuple[Request, PreparedRequest]]] = defaultdict(dict)
        """Reads that need credentials and succeeded, by operation."""
        self._suspects: dict[str, list[tuple[float, str]]] = defaultdict(list)
        """Unsafe requests that succeeded, with the time of the answer; what succeeded later clears them."""
        self._looks: Counter[tuple[str, str]] = Counter()
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._lost: dict[str, str] = {}

    def lost(self, who: str) -> str:
        """Why the user's credentials are not sent any more; "" while they work."""
        return self._lost.get(who, "")

    def note(self, who: str, step: Step, prepared: PreparedRequest, status: int, *, began: float, ended: float) -> bool:
        """Notes an answer to a request with the user's credentials; True where it puts them in doubt.

        `began`, `ended`: `time.monotonic()` before the request and after the answer.
        """
        doubtful = status == _UNAUTHORIZED
        if 200 <= status < 300 and step.operation in self._protected:
            suspects = self._suspects[who]
            suspects[:] = [suspect for suspect in suspects if suspect[0] > began]
        if 200 <= status < 300 and prepared.method not in SAFE_METHODS:
            self._suspects[who].append((ended, f"{step.operation} answered {status}"))
            del self._suspects[who][:-_MOST_SUSPECTS]
            doubtful = _TOUCHING.search(step.operation) is not None and not self._looks[who, step.operation]
        elif 200 <= status < 300 and prepared.method == "GET" and step.operation in self._protected:
            witnesses = self._witnesses[who]
            if step.operation not in witnesses and len(witnesses) < _MOST_WITNESSES:
                witnesses[step.operation] = step.request, prepared
        if who in self._lost:
            return status == _UNAUTHORIZED
        return doubtful and bool(self._witnesses[who]) and self._looks[who, step.operation] < _MOST_LOOKS

    async def look(self, who: str, operation: str, probe: Probe, *, thorough: bool) -> str:
        """Sends requests that succeeded before, only one where not `thorough`; why the credentials are lost, or ""."""
        async with self._locks[who]:
            if who in self._lost:
                return self._lost[who]
            self._looks[who, operation] += 1
            for request, prepared in list(self._witnesses[who].values())[: None if thorough else 1]:
                if await probe(request, prepared) == _UNAUTHORIZED:
                    self._lost[who] = _in_words(who, [text for _, text in self._suspects[who]])
                    return self._lost[who]
            return ""


def _in_words(who: str, suspects: list[str]) -> str:
    several = sorted(set(suspects))[:_MOST_NAMED]
    after = "though nothing was sent that explains it: they ended or were revoked"
    if several:
        after = f"after {'one of: ' if len(several) > 1 else ''}{', '.join(several)}"
    return f"{LOCKED_OUT}: the credentials of {who or 'the user'} worked and stopped working, {after}"
