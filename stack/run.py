"""`make run`: start everything, test one target through Airflow, show the report, serve until Ctrl-C."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from stack import PROJECT
from stack.clean import clean
from stack.local import Clock, Local, Span
from stack.samples import AIRFLOW, READY
from stack.show import Display, Row, display, stages, where_time_went
from testops_lib import target as targets
from testops_lib.airflow_api import GATE, Airflow, Snapshot
from testops_lib.errors import StackError, StoreError, TestOpsError, TriggerError
from testops_lib.http.address import is_url
from testops_lib.settings import OTHER_DOCUMENT, read_dotenv
from testops_lib.text import printable

if TYPE_CHECKING:
    from testops_lib.model import Identity
    from testops_lib.store import Store

__all__ = ["clean", "run"]

DAG, RERUN = "testops_run", "testops_rerun"
STATE = PROJECT / ".testops"
COULD_NOT_RUN = 2
INTERRUPTED = 130


def run(
    target: str = "shop",
    spec: str = "",
    base_url: str = "",
    once: bool = False,
    conf: Mapping[str, Any] | None = None,
    state: Path = STATE,
    identities: Sequence[Identity] = (),
) -> int:
    """Tests `target`, or the document `spec` instead, as `identities`; `conf` adds params of the DAG.

    With `once` everything is stopped after the report; otherwise it serves until Ctrl-C.

    Returns:
        the exit code: 0 the gate passed, 1 it failed, 2 the run could not be done, 130 Ctrl-C before the verdict.
    """
    begun = time.monotonic() - _seconds_of_make()
    from_dotenv = read_dotenv(PROJECT / ".env")
    shown = display(begun)
    clock = Clock(lambda name, state: shown.row(Row(name=name, state=state)))
    if _seconds_of_make() > 0.5:
        clock.spans.append(Span(name="set-up", begin=begun, end=time.monotonic()))
    code = COULD_NOT_RUN
    local: Local | None = None
    with _stop_signals():
        try:
            order, variables, samples = _order(target, spec, base_url, conf or {})
            variables |= _credentials(order, identities)
            variables |= {"TESTOPS_DOTENV": str(PROJECT / ".env"), "TESTOPS_DOTENV_NAMES": ",".join(from_dotenv)}
            defects = os.environ.get("SHOP_DEFECTS", "") or "all"
            local = Local(state, samples=samples, defects=defects, variables=variables, clock=clock)
            local.start()
            code = _test(local, order, shown, clock, begun)
            if not once:
                _serve(local, shown)
        except KeyboardInterrupt:
            shown.close()
            print("stopping", flush=True)
            if code == COULD_NOT_RUN:
                code = INTERRUPTED
        except BrokenPipeError:
            # The reader is gone, as in `make run | head`: further output must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except TestOpsError as error:
            shown.close()
            print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)
            code = COULD_NOT_RUN
        finally:
            shown.close()
            if local:
                with _deaf():
                    local.stop()
    return code


def _test(local: Local, order: Mapping[str, Any], shown: Display, clock: Clock, begun: float) -> int:
    """Triggers the DAG, shows its progress and prints the report; returns the exit code."""
    from testops_lib.store import Store

    def mend() -> None:
        for name in local.mend():
            shown.say(f"{name} had died and was started again")

    airflow = Airflow(
        local.airflow.url, username=local.airflow.username, password=local.airflow.password, meanwhile=mend
    )
    airflow.unpause(DAG)
    with contextlib.suppress(TriggerError):  # an older state directory has it paused; a new one has not parsed it yet
        airflow.unpause(RERUN)
    target = str(order.get("target") or "")
    name = target or str(order.get("spec"))
    run_id = airflow.trigger(DAG, {"target": OTHER_DOCUMENT, **order}, name=target, note=name)
    triggered, triggered_at = time.monotonic(), time.time()
    shown.say(f"run {run_id}: {airflow.page(DAG, run_id)}")
    last = Snapshot(run=run_id, state="queued")
    with Store(local.dsn) as store:
        follower = _Follower(store, run_id, shown)
        for last in airflow.wait(DAG, run_id, interval_s=0.7):
            for row in stages(last.tasks):
                shown.row(row)
            follower.look()
            mend()
        follower.look()
        clock.spans.append(Span(name=DAG, begin=triggered, end=time.monotonic()))
        for row, start in _begun(last):
            begin = triggered + start - triggered_at
            clock.spans.append(Span(name=f"  {row.name}", begin=begin, end=begin + row.elapsed_s))
        shown.close()
        report = store.report(run_id)
    if report is not None:
        from testops_lib.report import render_terminal

        print(flush=True)
        render_terminal(report)
    outcome = airflow.outcome(DAG, run_id)
    code = outcome.code
    if code == COULD_NOT_RUN:
        _explain(airflow, last, outcome.reasons)
    _print_times(clock, begun)
    _print_places(local, run_id, airflow, target=target, has_report=report is not None)
    return code


class _Follower:
    """Tells the display how far the cases are, and of failures as they come: the first of each check and operation."""

    def __init__(self, store: Store, run_id: str, shown: Display) -> None:
        self._store, self._run, self._shown = store, run_id, shown
        self._seq = 0
        self._announced: set[tuple[str, str]] = set()

    def look(self) -> None:
        try:
            now = self._store.progress(self._run, after=self._seq)
        except StoreError:
            # Not registered yet, or PostgreSQL is being started again.
            return
        self._seq = now.seq
        for failure in now.failures:
            kind = (failure.check, failure.operation)
            if kind not in self._announced:
                self._announced.add(kind)
                message = " ".join(failure.message.split())[:150]
                self._shown.say(f"  {failure.check}  {failure.operation}: {message}")
        failed = now.by_verdict.get("failed", 0) + now.by_verdict.get("errored", 0)
        self._shown.cases(now.done, now.published, failed)


def _begun(last: Snapshot) -> list[tuple[Row, float]]:
    """The stages that ended, each with its beginning (seconds since the epoch)."""
    ended = []
    for row in stages(last.tasks):
        starts = [task.started for task in last.tasks if task.task == row.name and task.started]
        if starts and row.elapsed_s:
            ended.append((row, min(starts).timestamp()))
    return ended


def _explain(airflow: Airflow, last: Snapshot, reasons: Sequence[str]) -> None:
    """Prints why there is no verdict, and the end of the log of each failed task."""
    from testops_lib.text import one_line

    failed = [task for task in last.tasks if task.state == "failed" and task.task != GATE]
    print(f"\nThe run came to no verdict: {one_line('; '.join(reasons) or last.state, 1000)}", flush=True)
    for task in failed[:3]:
        name = task.task if task.map_index < 0 else f"{task.task} [{task.label or task.map_index}]"
        print(f"\nTask {name} failed (attempt {task.attempt}). The end of its log:")
        with contextlib.suppress(TestOpsError):
            log = airflow.log_tail(DAG, last.run, task, lines=15)
            print(printable("\n".join(f"  {line}" for line in log.splitlines())))
    if len(failed) > 3:
        print(f"\n… and {len(failed) - 3} more tasks failed")
    sys.stdout.flush()


def _print_times(clock: Clock, begun: float) -> None:
    rows = where_time_went(clock.spans, begun)
    print("\nWhere the time went (what overlaps does not add up)")
    print(f"  {'':24}{'began at':>10}{'took':>10}")
    for name, start, took in rows:
        print(f"  {name:24}{start:8.1f} s{took:8.1f} s")
    print(f"  {'the report stood after':24}{'':10}{time.monotonic() - begun:8.1f} s", flush=True)


def _print_places(local: Local, run_id: str, airflow: Airflow, *, target: str, has_report: bool) -> None:
    folder = local.reports / "latest"
    if has_report and folder.is_dir():
        print("\nFiles")
        for path in sorted(folder.iterdir()):
            print(f"  {_short(path)}")
    print("\nAirflow")
    print(f"  {airflow.page(DAG, run_id)}")
    print(f"  login {local.airflow.username} / {local.airflow.password}")
    print("\nCommand line, in another terminal")
    print(f"  set -a; . {_short(_write_environment(local))}; set +a")
    if target:
        print(f"  .venv/bin/testops cases list --target {target}", flush=True)


def _write_environment(local: Local) -> Path:
    """A file for a shell with what the command line needs to reach these servers; for this user alone."""
    path = local.state / "environment"
    path.touch(mode=0o600)
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in local.variables().items())
    path.write_text("".join(lines), "utf-8")
    return path


def _serve(local: Local, shown: Display) -> None:
    print("\nServing; Ctrl-C stops everything.", flush=True)
    while True:
        time.sleep(2)
        for name in local.mend():
            shown.say(f"{name} had died and was started again")


def _order(
    target: str, spec: str, base_url: str, conf: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """What the DAG is asked, variables of its tasks, and the samples it needs.

    Raises:
        TargetError: there is no such target.
    """
    order: dict[str, Any] = dict(conf)
    variables: dict[str, str] = {}
    texts = [spec, base_url]
    if spec:
        if not is_url(spec):
            path = Path(spec).absolute()
            if not path.is_file():
                raise StackError("there is no such file", where=spec, next_step="SPEC is a URL or a file")
            order["spec"], variables["TESTOPS_SPECS_DIR"] = str(path), str(path.parent)
        else:
            order["spec"] = spec
        if any(_is_private(address) for address in (spec, base_url)):
            # The person at this machine named the address; it does not come from a document.
            order["allow_private"] = True
    else:
        folder = Path(os.environ.get("TESTOPS_TARGETS_DIR") or PROJECT / "targets")
        described = targets.find(folder, target)
        texts += [described.spec, described.base_url]
        order["target"] = target
    if base_url:
        order["base_url"] = base_url
    named = {name: f"${{TESTOPS_{name.upper()}_URL}}" for name in (*READY, AIRFLOW)}
    return order, variables, [name for name, reference in named.items() if any(reference in text for text in texts)]


def _credentials(order: Mapping[str, Any], identities: Sequence[Identity]) -> dict[str, str]:
    """Variables that pass a document's users to the tasks; each secret is in a variable of its own.

    Raises:
        StackError: the order names a target, which has its own users, or no base URL.
    """
    if not identities:
        return {}
    if "target" in order:
        raise StackError(
            "has its own credentials", where=f"target {order['target']}", next_step="leave out AUTH, HEADER"
        )
    if not order.get("base_url"):
        raise StackError("is missing", where="BASE_URL", next_step="say where the credentials may be sent")
    users, secrets = targets.with_references(identities, "TESTOPS_ADHOC_SECRET")
    credentials = targets.Credentials(base_url=order["base_url"], identities=users)
    return {"TESTOPS_ADHOC_AUTH": msgspec.json.encode(credentials).decode(), **secrets}


def _is_private(address: str) -> bool:
    """Whether `address` is a URL of this machine or of a private network."""
    host = urlsplit(address).hostname if "://" in address else None
    if not host:
        return False
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return any(ipaddress.ip_address(str(address).partition("%")[0]).is_private for address in addresses)


def _seconds_of_make() -> float:
    """Since `make` began, which notes the time before it sets up; 0 when nobody did."""
    text = os.environ.get("TESTOPS_MAKE_STARTED", "")
    return max(0.0, time.time() - float(text)) if text.replace(".", "", 1).isdigit() else 0.0


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextlib.contextmanager
def _stop_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end us as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """A second Ctrl-C does not interrupt the clean-up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
