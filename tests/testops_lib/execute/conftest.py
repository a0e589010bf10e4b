from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.testops_lib.execute.engine_server import Handler, Serve, Server, answer


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers: `serve(handler)`, `serve()` answers 200 `{}` to everything."""
    started: list[Server] = []

    def start(handler: Handler | None = None, **options: Any) -> Server:
        server = Server(handler or (lambda connection, seen: answer()), **options)
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()
