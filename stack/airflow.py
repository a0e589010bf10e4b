"""Airflow's api-server, scheduler, dag-processor and triggerer on this machine, with LocalExecutor.

All of Airflow's state stands in one directory: its home, its logs, and the secrets made at the first start. Airflow
itself is never imported here: it is started, configured by environment variables, and asked over its REST API.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from stack import HOST, PROJECT, ports
from stack.process import Child, Processes, tail
from stack.secret import stored_secret
from testops_lib.errors import StackError
from testops_lib.http.session import open_session

SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")
USERNAME = "admin"
BUNDLE = "dags-folder"
"""Airflow's name for the DAGs of its dags folder."""


class AirflowStack:
    """Airflow's services over the PostgreSQL database `dsn`, with all their state in the directory `state`.

    Airflow reads the folders `dags` and `plugins`. Each service, and so each task, gets `variables` in its environment.
    `port` is the preferred port of the UI, 0 any. `samples` is a second folder of DAGs; their import errors are
    ignored.
    """

    def __init__(
        self,
        state: Path,
        *,
        dsn: str,
        dags: Path = PROJECT / "dags",
        plugins: Path = PROJECT / "plugins",
        variables: Mapping[str, str] | None = None,
        port: int = 0,
        parallelism: int = 8,
        samples: Path | None = None,
    ) -> None:
        self.state = state.absolute()
        self.dsn = dsn
        self.dags, self.plugins = dags.absolute(), plugins.absolute()
        self.variables = dict(variables or {})
        self.parallelism = parallelism
        self.samples = samples
        self._wanted = port
        self._port = 0
        self.processes = Processes(self.state)
        self._child: Child | None = None
        self._starting = 0.0

    def __enter__(self) -> AirflowStack:
        self.launch()
        self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`: the UI, and the REST API below `/api/v2`. Known after `prepare`."""
        return f"http://{HOST}:{self._port}"

    @property
    def username(self) -> str:
        return USERNAME

    @property
    def password(self) -> str:
        """The generated password of `username`."""
        return self._secret("password")

    def prepare(self) -> None:
        """Takes the state directory and the port, so that `url` and `password` are known before the start."""
        self.processes.claim()
        if not self._port:
            self._port = ports.settle(self.state / "ports.json", {"api": self._wanted})["api"]
        passwords = self.state / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USERNAME: self.password}))

    def launch(self) -> None:
        """Starts the services, after a migration of the database if it needs one, and does not wait for them."""
        self.prepare()
        if self._child and self._child.returncode is None:
            return
        first = [] if self._is_migrated() else ["migrate"]
        self._starting = time.monotonic()
        self._child = self.processes.start(
            "airflow",
            [sys.executable, "-m", "stack.airflow_services", str(self.state), *first, *SERVICES],
            env=self.environment(),
        )

    def wait(self, *, dag: str = "", patience: float = 300) -> None:
        """Returns when the services are healthy and DAG `dag`, if named, has been parsed.

        Raises:
            StackError: a service ended, the DAG has an import error, or `patience` seconds have passed.
        """
        deadline = time.monotonic() + patience
        while not self._is_healthy():
            self._require(deadline, "the services are not healthy")
        self._remember_migration()
        while dag and not self._has_dag(dag):
            self._require(deadline, f"DAG {dag} has not been parsed")

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.returncode is None

    def stop(self) -> None:
        """Ends the services and their tasks, and frees the directory for the next owner."""
        if self._child:
            self._child.stop(patience=20)
            self._child = None
        ports.release(self.state / "ports.json")
        self.processes.release()

    def log(self, service: str) -> Path:
        """The file with the output of one of `SERVICES`."""
        return self.state / "logs" / f"{service}.log"

    def environment(self) -> dict[str, str]:
        """The whole environment of the services: ours, Airflow's settings, then `variables`."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW__", "AIRFLOW_"))}
        settings = {
            f"AIRFLOW__{name.replace('.', '__').upper()}": str(value) for name, value in self._settings().items()
        }
        path = os.pathsep.join([str(PROJECT), *filter(None, [kept.get("PYTHONPATH", "")])])
        programs = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
        ours = {"AIRFLOW_HOME": str(self.state), "PYTHONPATH": path, "PATH": programs, "PYTHONUNBUFFERED": "1"}
        return {**kept, **ours, **settings, **self.variables}

    def _settings(self) -> dict[str, object]:
        dialect = self.dsn.replace("postgresql://", "postgresql+psycopg2://", 1)
        return {
            "core.executor": "LocalExecutor",
            "core.load_examples": False,
            "core.dags_folder": self.dags,
            "core.plugins_folder": self.plugins,
            "core.parallelism": self.parallelism,
            "core.max_active_tasks_per_dag": self.parallelism,
            # On a developer's machine a target's schedule is active as soon as its file exists.
            "core.dags_are_paused_at_creation": False,
            "core.fernet_key": self._fernet_key(),
            "core.simple_auth_manager_users": f"{USERNAME}:admin",
            "core.simple_auth_manager_passwords_file": self.state / "passwords.json",
            "core.execution_api_server_url": f"{self.url}/execution/",
            # A loaded laptop needs longer than the default 30 s and 5 s, and would fail tasks instead of waiting.
            "core.dagbag_import_timeout": 120,
            "workers.execution_api_timeout": 60,
            "dag_processor.dag_file_processor_timeout": 180,
            "database.sql_alchemy_conn": dialect,
            "api.host": HOST,
            "api.port": self._port,
            "api.base_url": self.url,
            "api.workers": 1,
            "api.expose_config": "non-sensitive-only",
            "api.secret_key": self._secret("api-secret"),
            "api_auth.jwt_secret": self._secret("jwt-secret"),
            # Each task of a chain waits for this sleep: 0.1 takes 15 % of an idle core, the default of 1 takes 0.7 s a
            # task.
            "scheduler.scheduler_idle_sleep_time": 0.1,
            # A finished task holds its slot until its supervisor looks again.
            "workers.min_heartbeat_interval": 1,
            # Leftovers of a killed scheduler or task are found within a minute, not after five.
            "scheduler.orphaned_tasks_check_interval": 30,
            "scheduler.task_instance_heartbeat_timeout": 60,
            "dag_processor.parsing_processes": 1,
            "dag_processor.refresh_interval": 60,
            **self._bundles(),
            "logging.base_log_folder": self.state / "logs" / "tasks",
            "usage_data_collection.enabled": False,
        }

    def _bundles(self) -> dict[str, object]:
        if self.samples is None:
            return {}
        local = "airflow.dag_processing.bundles.local.LocalDagBundle"
        folders = [{"name": BUNDLE, "kwargs": {}}, {"name": "samples", "kwargs": {"path": str(self.samples)}}]
        return {
            "dag_processor.dag_bundle_config_list": json.dumps([{**folder, "classpath": local} for folder in folders]),
            # The same order at each first start gives the same ids.
            "dag_processor.file_parsing_sort_mode": "alphabetical",
        }

    def _secret(self, name: str) -> str:
        return stored_secret(self.state / "secrets" / name)

    def _fernet_key(self) -> str:
        """32 bytes in URL-safe base64 with its padding, as Fernet wants it."""
        return base64.urlsafe_b64encode(base64.urlsafe_b64decode(self._secret("fernet-key") + "=")).decode()

    def _stamp(self) -> str:
        """Airflow's version with the revision its database stands at; "" when the database is empty."""
        import psycopg

        try:
            with psycopg.connect(self.dsn, connect_timeout=10) as connection:
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except psycopg.errors.UndefinedTable:
            return ""
        except psycopg.Error as error:
            raise StackError(f"Airflow's database does not answer: {error}", where="PostgreSQL") from error
        return f"{importlib.metadata.version('apache-airflow-core')} {row[0]}" if row else ""

    def _is_migrated(self) -> bool:
        note = self.state / "migrated"
        return note.exists() and note.read_text() == self._stamp() != ""

    def _remember_migration(self) -> None:
        (self.state / "migrated").write_text(self._stamp())

    def _is_healthy(self) -> bool:
        health = self._get("/api/v2/monitor/health")
        return bool(health) and all(
            (health.get(part) or {}).get("status") == "healthy"
            for part in ("metadatabase", "scheduler", "dag_processor")
        )

    def _get(self, path: str) -> dict[str, dict[str, str | None]]:
        try:
            with open_session(host=HOST) as session:
                document: dict[str, dict[str, str | None]] = session.get(self.url + path, timeout=10).json()
                return document
        except (OSError, ValueError):
            return {}

    def _has_dag(self, dag: str) -> bool:
        """Whether the DAG has been parsed. The database knows it earlier than the REST API, and needs no token."""
        import psycopg

        with psycopg.connect(self.dsn, connect_timeout=10) as connection:
            parsed = connection.execute(
                "SELECT 1 FROM serialized_dag s JOIN dag d USING (dag_id) WHERE dag_id = %s AND NOT d.is_stale", [dag]
            ).fetchone()
            errors = connection.execute(
                "SELECT filename, stacktrace FROM import_error WHERE bundle_name = %s", [BUNDLE]
            ).fetchall()
        if not parsed and errors:
            file, trace = errors[0]
            raise StackError(f"DAG file cannot be imported\n{trace}", where=str(file), next_step="correct the file")
        return bool(parsed)

    def _require(self, deadline: float, what: str) -> None:
        if self._child is None:
            raise StackError("Airflow was not launched", where="Airflow")
        self._child.require("starting")
        if time.monotonic() > deadline:
            logs = "\n".join(f"{service}:\n{tail(self.log(service), 5)}" for service in SERVICES)
            raise StackError(f"{what}\n{logs}", where="Airflow", next_step=f"logs: {self.state / 'logs'}")
        time.sleep(0.1)
