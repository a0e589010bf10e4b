"""PostgreSQL, Kafka and the sample API for an Airflow that runs elsewhere: on a Kubernetes of this machine."""

from __future__ import annotations

import ipaddress
import shlex
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stack import HOST, PROJECT
from stack.kafka import Kafka
from stack.postgres import Postgres
from stack.samples import Sample
from testops_lib.errors import StackError

STATE = PROJECT / ".testops" / "services"


class Services:
    """One server of each, with its state in `state`, on any free ports of 127.0.0.1.

    Pods reach this machine's 127.0.0.1 as `address`; PostgreSQL admits the networks `admit`. `defects` are the shop's.
    """

    def __init__(
        self, state: Path = STATE, *, address: str, admit: Sequence[str], defects: str = "all", durable: bool = True
    ) -> None:
        try:
            ipaddress.ip_address(address)
            for network in admit:
                ipaddress.ip_network(network)
        except ValueError as error:
            raise StackError(str(error), next_step="give an address, and networks such as 10.244.0.0/24") from None
        self.state = state.absolute()
        self.address = address
        self.postgres = Postgres(self.state / "postgres", durable=durable, admit=admit)
        self.kafka = Kafka(self.state / "kafka", durable=durable, announce=address)
        self.shop = Sample("shop", self.state / "shop", defects=defects)

    def __enter__(self) -> Services:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when all of them answer; there are no tables and no topics yet.

        Raises:
            StackError: a server could not be started. The others may run until `stop`.
        """
        try:
            with ThreadPoolExecutor(3) as pool:
                starts = [pool.submit(server.start) for server in (self.postgres, self.kafka, self.shop)]
            for start in starts:
                start.result()
            self.postgres.create_database("airflow")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends everything; data stays."""
        for server in (self.shop, self.kafka, self.postgres):
            server.stop()

    def variables(self) -> dict[str, str]:
        """What pods need to reach these servers, secrets included. Only after `start`."""
        shop = {name: self._announced(value) for name, value in self.shop.variables().items()}
        return {
            "TESTOPS_DSN": self._announced(self.postgres.dsn()),
            "AIRFLOW_DSN": self._announced(self.postgres.dsn("airflow")),
            "TESTOPS_KAFKA_BOOTSTRAP": self.kafka.announced_bootstrap,
            **shop,
        }

    def _announced(self, text: str) -> str:
        return text.replace(f"{HOST}:", f"{self.address}:")


def serve(*, address: str, admit: Sequence[str], defects: str) -> None:
    """Starts them, writes their variables into a file for a shell, and serves until Ctrl-C."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Services(address=address, admit=admit, defects=defects) as services:
        path = STATE / "environment"
        path.touch(mode=0o600)
        lines = (f"{name}={shlex.quote(value)}\n" for name, value in services.variables().items())
        path.write_text("".join(lines), "utf-8")
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        print(f"PostgreSQL, Kafka and the shop run. Their addresses for pods, for a shell:  . {shown}", flush=True)
        print("Ctrl-C stops them.", flush=True)
        ended.wait()
