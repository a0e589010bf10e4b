"""Airflow's services in one family: `python -m stack.airflow_services HOME [migrate] SERVICE…`.

Each Airflow command spends four to five seconds of CPU on imports before it does anything. Here one process
imports once and forks the services, which share the modules (and their memory); each then runs exactly what
`airflow SERVICE` runs. The process stays as their parent: one that dies is started again, and SIGTERM ends all.

The output of a service goes to HOME/logs/SERVICE.log (that of the previous start: SERVICE.log.1), its pid to
HOME/pids/SERVICE.
"""

# ruff: noqa: TID251 (this file stands on Airflow's side, as dags/ do)
from __future__ import annotations

import gc
import importlib
import importlib.resources
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

COMMANDS = {
    "migrate": ["db", "migrate"],
    "api-server": ["api-server"],
    # The api-server reads task logs from the disk, so the scheduler need not serve them.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
RESTART_PAUSE = 2.0
PATIENCE = 4.0
PR_SET_PDEATHSIG = 1


def become(name: str, home: Path) -> NoReturn:
    """Run `airflow` with the arguments of service `name` in this (forked) process; its exit code is ours."""
    path = home / "logs" / f"{name}.log"
    if path.exists():
        path.replace(f"{path}.1")  # shows why the previous process ended
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = ["airflow", *COMMANDS[name]]
    code = 0
    try:
        if name == "scheduler":
            keep_connections_to_oneself(urlsplit(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]).port or 5432)
            preload_for_tasks()
        from airflow.__main__ import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def die_with(parent: int) -> None:
    """Lets the kernel end this process when its parent ends, for whatever reason."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)


def fork(name: str, home: Path) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with(parent)
        become(name, home)
    (home / "pids").mkdir(exist_ok=True)
    (home / "pids" / name).write_text(str(pid))
    return pid


def keep_connections_to_oneself(port: int) -> None:
    """From now on no fork of this process holds its connections to the database at `port`.

    The scheduler's workers are its forks and outlive it when it is killed. With a copy of its connection in their hands
    the database would keep the transaction of the dead, and the lock on the pools in it, as long as one of them lives:
    nothing would be scheduled any more.
    """

    def let_go() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for name in os.listdir("/proc/self/fd"):
            try:
                with socket.socket(fileno=os.dup(int(name))) as copy:
                    peer = copy.getpeername()
            except OSError:
                continue  # no socket, or none that is connected
            if isinstance(peer, tuple) and peer[1] == port:
                os.dup2(null, int(name))  # not closed: the number must not become that of something else
        os.close(null)

    os.register_at_fork(after_in_child=let_go)


def preload() -> None:
    """Import what two or more services would import anyway."""
    import airflow.__main__
    import airflow.api_fastapi.execution_api.app
    import airflow.api_fastapi.execution_api.versions
    import airflow.dag_processing.manager
    import airflow.jobs.scheduler_job_runner
    import airflow.jobs.triggerer_job_runner
    import airflow.models.dagbag

    if os.environ.get("TESTOPS_LAUNCHER") == "kubernetes":
        # Seconds of imports, which otherwise every start of a batch and every end of its pod pay.
        import airflow.providers.cncf.kubernetes.operators.pod
        import kubernetes_asyncio.client

        del kubernetes_asyncio
    del airflow


def imported_for_tasks() -> list[str]:
    """The stages of a run, and the heavy libraries that they import where they use them."""
    stages = importlib.resources.files("testops_lib.run").iterdir()
    names = sorted(Path(stage.name).stem for stage in stages if stage.name.endswith(".py") and stage.name[0] != "_")
    return [*(f"testops_lib.run.{name}" for name in names), "jsonschema_rs", "jinja2", "pycurl"]


def preload_for_tasks() -> None:
    """Import what every task would: tasks are forks of the scheduler's workers, which are forks of the scheduler.

    That holds for our library as well: after a change in it the scheduler must be started again.
    """
    import airflow.providers.standard.decorators.python
    import airflow.providers.standard.operators.python
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    ProvidersManagerTaskRuntime().initialize_providers_taskflow_decorator()
    for name in imported_for_tasks():
        importlib.import_module(name)
    del airflow


def is_listening() -> bool:
    """Whether the api-server accepts connections.

    The request left behind makes it build the task API, which it would otherwise do (for several seconds) when the
    first task begins.
    """
    with socket.socket() as probe:
        if probe.connect_ex((os.environ["AIRFLOW__API__HOST"], int(os.environ["AIRFLOW__API__PORT"]))):
            return False
        probe.sendall(b"GET /execution/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return True


def main(argv: list[str]) -> int:
    home = Path(argv[0])
    (home / "logs").mkdir(exist_ok=True)
    begun = time.monotonic()
    gc.disable()
    preload()
    # What is here stays: the collector of a fork need not visit (and so copy) it. Services make objects by the million
    # before they do anything; with the usual threshold of 700 a third of their start is spent in the collector.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
    print(f"modules loaded in {time.monotonic() - begun:.1f} s", flush=True)
    names = argv[1:]
    if names[0] == "migrate":
        status = os.waitpid(fork(names.pop(0), home), 0)[1]
        if status:
            print((home / "logs" / "migrate.log").read_text()[-3000:])
            return 1
        print(f"database ready after {time.monotonic() - begun:.1f} s", flush=True)

    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # The api-server is what everything waits for; the triggerer, which nothing waits for, leaves it the processor.
    running = {fork(name, home): name for name in names if name != "triggerer"}
    due = {"triggerer": time.monotonic() + 30} if "triggerer" in names else {}
    announced = False
    while not stopping:
        if not announced and is_listening():
            announced = True
            print(f"api-server listens after {time.monotonic() - begun:.1f} s", flush=True)
            due = {name: 0 for name in due}
        # Polling, since a signal handler alone does not end a waitpid.
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in running:
            name = running.pop(pid)
            print(f"{name} ended ({os.waitstatus_to_exitcode(status)}); starting it again", flush=True)
            due[name] = time.monotonic() + RESTART_PAUSE
        for name in [name for name, at in due.items() if at <= time.monotonic()]:
            del due[name]
            running[fork(name, home)] = name
        if not pid:
            time.sleep(0.1)
    for pid in running:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while running and time.monotonic() < deadline:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid in running:
            print(f"{running.pop(pid)} ended", flush=True)
        if not pid:
            time.sleep(0.05)
    for pid, name in running.items():
        print(f"{name} did not end in {PATIENCE:.0f} s: killed", flush=True)
        os.kill(pid, signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
