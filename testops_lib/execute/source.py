"""Where an engine's cases come from: a list, or an iterator that is waited for until the run is stopped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

from testops_lib.execute.shutdown import Shutdown
from testops_lib.model import Case


class Source:
    """Hands out cases one at a time to many workers, until there are no more or the run is stopped."""

    def __init__(
        self,
        cases: Iterable[Case] | AsyncIterable[Case] | AsyncIterable[list[Case]],
        shutdown: Shutdown,
    ) -> None:
        self._shutdown = shutdown
        self._plain: Iterator[Case] | None = None
        self._async: AsyncIterator[Case | list[Case]] | None = None
        self._read: deque[Case] = deque()
        if isinstance(cases, AsyncIterable):
            stream: AsyncIterable[Any] = cases
            self._async = aiter(stream)
        else:
            self._plain = iter(cases)
        self._lock = asyncio.Lock()
        self._over = False

    async def take(self) -> Case | None:
        """The next case, or None when no further one is to be started."""
        if self.ended():
            return None
        if self._plain is not None:
            case = next(self._plain, None)
            self._over = case is None
            return case
        if not self._read:
            async with self._lock:
                while not self._read:
                    if self.ended() or not await self._pull():
                        return None
        return self._read.popleft()

    def ended(self) -> bool:
        """No further case is to be started."""
        return self._over or self._shutdown.stopped

    async def _pull(self) -> bool:
        """Reads the next case or list; False: there is none, or the run was stopped meanwhile."""
        assert self._async is not None
        pull = asyncio.ensure_future(anext(self._async, None))
        halt = asyncio.ensure_future(self._shutdown.halted.wait())
        try:
            await asyncio.wait((pull, halt), return_when=asyncio.FIRST_COMPLETED)
            if not pull.done():
                return False
            pulled = pull.result()
            if pulled is None:
                self._over = True
            elif isinstance(pulled, list):
                self._read.extend(pulled)
            else:
                self._read.append(pulled)
            return not self._over
        finally:
            for task in (pull, halt):
                task.cancel()
            await asyncio.gather(pull, halt, return_exceptions=True)

    async def close(self) -> None:
        close = getattr(self._async, "aclose", None)
        if close is not None:
            await close()
