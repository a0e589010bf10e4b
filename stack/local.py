"""All servers of `make run` as one: started together as far as possible, restarted when one dies, stopped together."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stack import PROJECT, seed
from stack.airflow import AirflowStack
from stack.fleet import Fleet
from stack.kafka import Kafka
from stack.postgres import Postgres
from stack.process import Child, Processes
from stack.samples import AIRFLOW, Sample
from testops_lib import settings
from testops_lib.airflow_api import Airflow
from testops_lib.errors import StackError

PORTS = {"POSTGRES": 15432, "KAFKA": 19092, "UI": 8080, "SHOP": 8081, "HTTPBIN": 8082}
"""First choices; `TESTOPS_PORT_UI=…` in the environment or .env asks for another."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A step of the start or of the run, with its `time.monotonic()` at both ends."""

    name: str
    begin: float
    end: float


class Clock:
    """Collects spans from several threads."""

    def __init__(self, tell: Callable[[str, str], None] | None = None) -> None:
        self.spans: list[Span] = []
        self._tell = tell or (lambda name, state: None)

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Measures a block; `tell` is called with `starting`, then with `ready` or `failed`."""
        begin = time.monotonic()
        self._tell(name, "starting")
        try:
            yield
        except BaseException:
            self._tell(name, "failed")
            raise
        self.spans.append(Span(name=name, begin=begin, end=time.monotonic()))
        self._tell(name, "ready")


class Local:
    """PostgreSQL, Kafka, Airflow, `samples` and the following collector, with their state in `state`.

    With TESTOPS_LAUNCHER=fleet, in the environment or in `variables`, also the runners of a fleet.

    The sample `airflow` is not a server but DAGs and data in our Airflow, for tests of its own API.
    Kafka has 1 or 3 `brokers`, and as many copies of each record. Tasks see `variables` in their environment. `dags` is
    Airflow's folder; `start` returns when Airflow has parsed `dag`, if it is not "".
    """

    def __init__(
        self,
        state: Path = PROJECT / ".testops",
        *,
        samples: Sequence[str] = ("shop",),
        defects: str = "all",
        brokers: int = 1,
        variables: Mapping[str, str] | None = None,
        dags: Path = PROJECT / "dags",
        dag: str = "testops_run",
        clock: Clock | None = None,
    ) -> None:
        self.state = state.absolute()
        self.clock = clock or Clock()
        self.dag = dag
        self.processes = Processes(self.state / "run")
        self.postgres = Postgres(self.state / "postgres", port=_port("POSTGRES"))
        self.kafka = Kafka(self.state / "kafka", brokers=brokers, port=_port("KAFKA"))
        self.samples = [
            Sample(name, self.state / name, port=_port(name.upper()), defects=defects)
            for name in samples
            if name != AIRFLOW
        ]
        self._seeded = AIRFLOW in samples
        self._extra = dict(variables or {})
        self._dags = dags
        self._airflow: AirflowStack | None = None
        self._collector: Child | None = None
        self._fleet: Fleet | None = None
        self._pool = ThreadPoolExecutor(6, thread_name_prefix="stack")

    def __enter__(self) -> Local:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def airflow(self) -> AirflowStack:
        """Airflow, once PostgreSQL is up."""
        if self._airflow is None:
            raise StackError("was not started", where="Airflow")
        return self._airflow

    @property
    def fleet(self) -> Fleet:
        """The fleet, once everything is up."""
        if self._fleet is None:
            raise StackError("was not started", where="the fleet", next_step="set TESTOPS_LAUNCHER=fleet")
        return self._fleet

    @property
    def dsn(self) -> str:
        """The results database."""
        return self.postgres.dsn()

    @property
    def reports(self) -> Path:
        return self.state / "reports"

    def start(self) -> None:
        """Returns when Airflow has parsed the DAG, the topics and tables exist, and the collector follows.

        Raises:
            StackError: a server could not be started. The others may run until `stop`.
        """
        self.processes.claim()
        # Their ports go into Airflow's environment.
        self.kafka.prepare()
        for sample in self.samples:
            sample.prepare()
        # Airflow takes longest and needs PostgreSQL alone, so its database comes first.
        database: Future[None] = self._pool.submit(self._start_database)
        broker: Future[None] = self._pool.submit(self._start_broker)
        others = [self._pool.submit(self._start_sample, sample) for sample in self.samples]
        with self.clock.span("Airflow"):
            _all_of(database)
            if self._seeded:
                others.append(self._pool.submit(self._seed))
            self.airflow.wait(dag=self.dag)
        _all_of(broker, *others)
        self._start_collector()
        variables = self.variables()
        if variables["TESTOPS_LAUNCHER"] == "fleet":
            self._fleet = Fleet(self.state / "fleet", variables)
            self._fleet.add(settings.read({**os.environ, **variables}).max_batches_at_once)

    def variables(self) -> dict[str, str]:
        """The variables of tasks, the collector and the command line, secrets included."""
        airflow = (
            {}
            if self._airflow is None
            else {
                "TESTOPS_AIRFLOW_URL": self._airflow.url,
                "TESTOPS_AIRFLOW_USERNAME": self._airflow.username,
                "TESTOPS_AIRFLOW_PASSWORD": self._airflow.password,
                "TESTOPS_UI_URL": self._airflow.url,
                # The DAG and the task that the target `airflow` tests: those of the sample, or our own.
                "TESTOPS_AIRFLOW_DAG": seed.DAG if self._seeded else "testops_run",
                "TESTOPS_AIRFLOW_TASK": seed.TASK if self._seeded else "open_run",
            }
        )
        samples = {name: value for sample in self.samples for name, value in sample.variables().items()}
        variables = {
            "TESTOPS_DSN": self.dsn,
            "TESTOPS_KAFKA_BOOTSTRAP": self.kafka.prepare(),
            "TESTOPS_TARGETS_DIR": os.environ.get("TESTOPS_TARGETS_DIR") or str(PROJECT / "targets"),
            "TESTOPS_REPORTS_DIR": str(self.reports),
            # Only people at this machine reach its servers.
            "TESTOPS_ADHOC": os.environ.get("TESTOPS_ADHOC") or "private",
            "TESTOPS_LAUNCHER": "fleet" if os.environ.get("TESTOPS_LAUNCHER") == "fleet" else "process",
            **samples,
            **airflow,
            **self._extra,
        }
        if names := variables.get("TESTOPS_DOTENV_NAMES"):
            # A change of `.env` must not replace what stands here.
            rereadable = [name for name in names.split(",") if name not in variables]
            variables["TESTOPS_DOTENV_NAMES"] = ",".join(rereadable)
        return variables

    def mend(self) -> list[str]:
        """Restarts the servers that have died; returns their names."""
        restarted = []
        servers: dict[str, Postgres | Kafka | Sample] = {"PostgreSQL": self.postgres, "Kafka": self.kafka}
        for name, server in (servers | {sample.name: sample for sample in self.samples}).items():
            if not server.is_running:
                server.start()
                restarted.append(name)
        if not self.airflow.is_running:
            self.airflow.launch()
            restarted.append("Airflow")
        if self._collector is None or self._collector.returncode is not None:
            self._start_collector()
            restarted.append("collector")
        if self._fleet is not None and self._fleet.mend():
            restarted.append("a fleet runner")
        return restarted

    def stop(self) -> None:
        """Ends everything at once; harmless when little or nothing was started."""
        servers = [server for server in (self._airflow, *self.samples, self.kafka) if server is not None]
        for owner in (self, self.postgres, *servers):
            owner.processes.forbid()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._collector:
            self._collector.stop(patience=3)
            self._collector = None
        if self._fleet:
            self._fleet.stop(patience=10)
            self._fleet = None
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.stop(), servers))
        # Last, when nobody has a session any more.
        self.postgres.stop()
        self.processes.release()

    def _start_database(self) -> None:
        with self.clock.span("PostgreSQL"):
            self.postgres.start()
        dsn = self.postgres.create_database("airflow")
        airflow = AirflowStack(
            self.state / "airflow",
            dsn=dsn,
            dags=self._dags,
            port=_port("UI"),
            samples=seed.DAGS if self._seeded else None,
        )
        airflow.prepare()
        self._airflow = airflow
        airflow.variables = self.variables()
        airflow.launch()
        with self.clock.span("tables"):
            from testops_lib.store import Store

            with Store(self.dsn) as store:
                store.upgrade()

    def _start_broker(self) -> None:
        with self.clock.span("Kafka"):
            bootstrap = self.kafka.start()
        with self.clock.span("topics"):
            from testops_lib.bus.client import Bus

            with Bus(bootstrap) as bus:
                chosen = settings.read({**os.environ, **self._extra})
                bus.create_topics(
                    partitions=chosen.kafka_partitions,
                    replication=self.kafka.brokers,
                    fleet_partitions=chosen.fleet_partitions,
                )

    def _start_sample(self, sample: Sample) -> None:
        with self.clock.span(sample.name):
            sample.start()

    def _seed(self) -> None:
        self.airflow.wait(dag=seed.DAG)
        with self.clock.span("sample data"):
            seed.seed(Airflow(self.airflow.url, username=self.airflow.username, password=self.airflow.password))

    def _start_collector(self) -> None:
        self._collector = self.processes.start(
            "collector",
            [sys.executable, "-m", "testops_lib.cli", "collect", "--follow"],
            env={**os.environ, **self.variables()},
            cwd=PROJECT,
        )


def _all_of(*futures: Future[None]) -> None:
    for future in futures:
        future.result()


def _port(name: str) -> int:
    text = os.environ.get(f"TESTOPS_PORT_{name}", "") or str(PORTS[name])
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise StackError(
            f"{text!r} is no port", where=f"TESTOPS_PORT_{name}", next_step="give 1 to 65535, or 0 for any"
        )
    return int(text)
