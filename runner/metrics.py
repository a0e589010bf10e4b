"""What a fleet runner says of itself over HTTP: `/live`, `/ready` and `/metrics`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from testops_lib.errors import SettingsError

LIVE_S = 30
"""A loop that has not beaten for so long hangs."""

VERDICTS = ("passed", "failed", "errored", "skipped")
ORDERS = ("done", "retry", "configuration", "away", "returned", "expired", "given_up")


class Metrics:
    """The runner's state. Labels are from the lists above, so their number never grows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.beat = time.monotonic()
        """When the consuming loop last went round."""
        self.ready = False
        """Kafka answers and has us in the group."""
        self.cases = Counter("testops_runner_cases", "Results by verdict.", ["verdict"], registry=self.registry)
        self.requests = Counter("testops_runner_requests", "Requests sent by ended orders.", registry=self.registry)
        self.orders = Counter("testops_runner_orders", "Orders by how they ended.", ["outcome"], registry=self.registry)
        self.in_work = Gauge("testops_runner_order_in_work", "1 while an order is executed.", registry=self.registry)
        self.assigned = Gauge(
            "testops_runner_assigned_partitions",
            "Partitions of the orders' topic that are ours.",
            registry=self.registry,
        )
        ready = Gauge("testops_runner_ready", "1 while Kafka answers and we are in the group.", registry=self.registry)
        ready.set_function(lambda: float(self.ready))
        since = Gauge(
            "testops_runner_seconds_since_poll", "Since the consuming loop last went round.", registry=self.registry
        )
        since.set_function(lambda: time.monotonic() - self.beat)
        build = Gauge("testops_runner_build_info", "1; the version is a label.", ["version"], registry=self.registry)
        build.labels(os.environ.get("TESTOPS_VERSION") or "source").set(1)
        for verdict in VERDICTS:
            self.cases.labels(verdict)
        for outcome in ORDERS:
            self.orders.labels(outcome)

    @property
    def live(self) -> bool:
        return time.monotonic() - self.beat < LIVE_S


@contextmanager
def serve(metrics: Metrics, bind: str, port: int) -> Iterator[str]:
    """Answers in threads of its own while the block runs; gives the address, `host:port`.

    Raises:
        SettingsError: the port cannot be had.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, generate_latest(metrics.registry), CONTENT_TYPE_LATEST)
            elif path == "/live":
                self._state(metrics.live)
            elif path == "/ready":
                self._state(metrics.ready)
            else:
                self._answer(404, b"there are /live, /ready and /metrics\n")

        def _state(self, holds: bool) -> None:
            self._answer(200 if holds else 503, b"yes\n" if holds else b"no\n")

        def _answer(self, status: int, body: bytes, media_type: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignores a client that hung up."""

    try:
        server = Server((bind, port), Handler)
    except OSError as error:
        raise SettingsError(
            f"cannot be had: {error.strerror or error}",
            where=f"{bind}:{port}",
            next_step="give another --port or --bind",
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), name="http", daemon=True)
    thread.start()
    try:
        yield f"{bind}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
