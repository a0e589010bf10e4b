"""Airflow's REST API from outside: start a DAG run, follow it, read its logs, clear its tasks.

Each call survives a restart of the API server or of the database behind it: it is repeated with growing pauses until
`patience_s` is over. Starting a run is repeatable as well, since its id is chosen here.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from testops_lib.errors import TriggerError
from testops_lib.http.session import open_session, reason
from testops_lib.model import Value

FINISHED = frozenset({"success", "failed"})
"""States in which a DAG run stays unless somebody clears its tasks."""

GATE = "gate"
"""The task whose failure means: the API under test did not pass."""

PAGE = 100
"""Airflow's default limit of a page."""

_RUN_ID = re.compile(r"[A-Za-z0-9_.~:+-]{1,250}")
_AWAY = frozenset({502, 503, 504})
_DATABASE_AWAY = "Database error"
"""The reason in Airflow's answer 500 while its database is away."""

MOST_CAUSES = 3
"""Failed tasks of a run whose cause is fetched."""

WAITS = "awaiting_input"
"""A task's state while it waits for a person, as the review does."""


class TaskState(Value, frozen=True, kw_only=True):
    """One task instance of a run."""

    task: str
    map_index: int = -1
    """-1: the task is not mapped."""
    label: str = ""
    """What Airflow shows instead of the map index."""
    state: str = ""
    """Airflow's state (`running`, `success`, `failed`, `upstream_failed`, …); "" while it has none."""
    attempt: int = 0
    started: datetime | None = None
    ended: datetime | None = None


class Snapshot(Value, frozen=True, kw_only=True):
    """A run at one moment."""

    run: str
    state: str
    """`queued`, `running`, `success` or `failed`."""
    tasks: tuple[TaskState, ...] = ()
    elapsed_s: float = 0
    """Seconds since `wait` began."""

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED


class Outcome(Value, frozen=True, kw_only=True):
    """How a run ended."""

    verdict: Literal["passed", "failed", "none"] = "none"
    """passed: the gate ran and passed; failed: the gate ran and failed; none: there is no verdict."""
    reasons: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """The exit code of the command that started the run."""
        return {"passed": 0, "failed": 1, "none": 2}[self.verdict]

    @property
    def words(self) -> str:
        """The verdict for people."""
        return {"passed": "the gate passed", "failed": "the gate is closed", "none": "no verdict"}[self.verdict]


class Airflow:
    """A client of one Airflow, by user name and password or by a ready `token`.

    While Airflow is away, `meanwhile` is called before each further try of a call.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str = "",
        password: str = "",
        token: str = "",
        patience_s: float = 180,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url.rstrip("/")
        self._meanwhile = meanwhile
        self.patience_s = patience_s
        self._login = {"username": username, "password": password} if username else None
        self._token = token
        self._reached = False
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TriggerError("is no address of an Airflow", where=url, next_step="give http(s)://host[:port]")
        if not self._login and not token:
            raise TriggerError(
                "no credentials", where=self.url, next_step="give a user name and a password, or a token"
            )
        self._session = open_session(host=parts.hostname)

    def token(self) -> str:
        """The token of the login: fetched once (Airflow's is valid for a day), and again after it was refused.

        Raises:
            TriggerError: the user name or the password is wrong.
        """
        if not self._token:
            if not self._login:
                raise TriggerError("the token was refused", where=self.url, next_step="give a fresh one")
            answer = self._call("POST", "/auth/token", self._login, anonymous=True)
            self._token = str(answer["access_token"])
        return self._token

    def trigger(self, dag: str, conf: Mapping[str, Any], *, run_id: str = "", name: str = "", note: str = "") -> str:
        """Starts a run and returns its id: `run_id`, else a new one that begins with `name`.

        A run of that id that exists already counts as started.

        Raises:
            TriggerError: no such DAG, or its params refuse `conf`.
        """
        if not run_id:
            run_id = f"{name or 'testops'}__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}__{secrets.token_hex(3)}"
        elif not _RUN_ID.fullmatch(run_id):
            raise TriggerError(f"{run_id!r} is no run id", next_step="use letters, digits and _ . ~ : + -")
        body: dict[str, Any] = {"logical_date": None, "dag_run_id": run_id, "conf": dict(conf)}
        if note:
            body["note"] = note
        self._call("POST", f"/api/v2/dags/{_part(dag)}/dagRuns", body, accept=(409,))
        return run_id

    def is_paused(self, dag: str) -> bool:
        """Whether the runs of `dag` stay queued until somebody unpauses it."""
        return bool(self._call("GET", f"/api/v2/dags/{_part(dag)}").get("is_paused"))

    def unpause(self, dag: str) -> None:
        """Lets the runs of `dag` begin, if it is paused."""
        if self.is_paused(dag):
            self._call("PATCH", f"/api/v2/dags/{_part(dag)}?update_mask=is_paused", {"is_paused": False})

    def state(self, dag: str, run: str) -> str:
        """`queued`, `running`, `success` or `failed`."""
        return str(self._call("GET", self._run(dag, run))["state"])

    def task_states(self, dag: str, run: str) -> tuple[TaskState, ...]:
        """All task instances, in Airflow's order (by task, then by map index)."""
        instances: list[dict[str, Any]] = []
        while True:
            query = urlencode({"limit": PAGE, "offset": len(instances)})
            page = self._call("GET", f"{self._run(dag, run)}/taskInstances?{query}")
            instances += page["task_instances"]
            if not page["task_instances"] or len(instances) >= page["total_entries"]:
                return tuple(map(_task_state, instances))

    def snapshot(self, dag: str, run: str, *, since: float | None = None) -> Snapshot:
        """The run now; `since` is the `time.monotonic()` from which `elapsed_s` counts."""
        # The run's state is read first: once it is "success", the tasks read after it are final.
        state = self.state(dag, run)
        elapsed = 0 if since is None else time.monotonic() - since
        return Snapshot(run=run, state=state, tasks=self.task_states(dag, run), elapsed_s=elapsed)

    def wait(self, dag: str, run: str, *, timeout_s: float = 3600, interval_s: float = 1) -> Iterator[Snapshot]:
        """A snapshot every `interval_s` seconds; the last one is finished.

        Raises:
            TriggerError: the run has not finished within `timeout_s`; it continues in Airflow.
        """
        began = time.monotonic()
        while True:
            snapshot = self.snapshot(dag, run, since=began)
            yield snapshot
            if snapshot.is_finished:
                return
            if time.monotonic() - began > timeout_s:
                raise TriggerError(
                    f"not finished after {timeout_s:.0f} s (it is {snapshot.state})",
                    where=run,
                    next_step=f"it continues: {self.page(dag, run)}",
                )
            time.sleep(interval_s)

    def outcome(self, dag: str, run: str) -> Outcome:
        """How the run ended, by the outcome that its gate pushed; never better than the run's own state."""
        snapshot = self.snapshot(dag, run)
        if not snapshot.is_finished:
            return Outcome(reasons=(f"the run is {snapshot.state or 'unknown'}",))
        gate = next((task for task in snapshot.tasks if task.task == GATE), None)
        if gate is None or gate.state not in FINISHED:
            return Outcome(reasons=self._causes(dag, run, snapshot.tasks))
        path = f"{self._run(dag, run)}/taskInstances/{GATE}/xcomEntries/outcome?stringify=false"
        pushed = self._call("GET", path, accept=(404,)).get("value")
        if not isinstance(pushed, dict):
            return Outcome(reasons=self._causes(dag, run, snapshot.tasks) or ("somebody marked the gate",))
        reasons = tuple(map(str, pushed.get("reasons") or ()))
        if pushed.get("verdict") == "passed" and snapshot.state == "success" and gate.state == "success":
            return Outcome(verdict="passed")
        if pushed.get("verdict") == "failed":
            return Outcome(verdict="failed", reasons=reasons)
        return Outcome(reasons=reasons or self._causes(dag, run, snapshot.tasks))

    def _causes(self, dag: str, run: str, tasks: Iterable[TaskState]) -> tuple[str, ...]:
        """Why tasks failed: the causes that they pushed, else their names."""
        failed = [task for task in tasks if task.state == "failed"]
        causes: dict[str, None] = {}
        for task in failed[:MOST_CAUSES]:
            path = f"{self._run(dag, run)}/taskInstances/{_part(task.task)}/xcomEntries/cause"
            if cause := self._call("GET", f"{path}?map_index={task.map_index}", accept=(404,)).get("value"):
                causes[str(cause)] = None
        return tuple(causes) or tuple(dict.fromkeys(f"task {task.task} failed, see its log" for task in failed))

    def log_tail(self, dag: str, run: str, task: TaskState, *, lines: int = 20) -> str:
        """The last lines of the log of a task's last attempt; "" without a log."""
        place = f"{self._run(dag, run)}/taskInstances/{_part(task.task)}/logs/{max(1, task.attempt)}"
        query = urlencode({"map_index": task.map_index, "full_content": "true"})
        answer = self._call("GET", f"{place}?{query}", accept=(404,))
        entries = answer.get("content") or []
        log = [line for entry in entries for line in _log_lines(entry)]
        return "\n".join(log[-lines:])

    def clear(self, dag: str, run: str, tasks: Sequence[str]) -> int:
        """Clears tasks (all their map indexes) and everything downstream; returns the number of cleared instances."""
        body = {
            "dry_run": False,
            "dag_run_id": run,
            "task_ids": list(tasks),
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
        }
        answer = self._call("POST", f"/api/v2/dags/{_part(dag)}/clearTaskInstances", body)
        return int(answer["total_entries"])

    def clear_failed(self, dag: str, run: str) -> int:
        """Clears the tasks that failed and everything downstream; returns the number of cleared instances."""
        failed = dict.fromkeys(task.task for task in self.task_states(dag, run) if task.state == "failed")
        return self.clear(dag, run, list(failed)) if failed else 0

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """The JSON object at a path of the REST API (`/api/v2/…`)."""
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path)

    def put(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        """Writes by `POST`, `PUT` or `PATCH`; 409 means it exists already, which is fine."""
        self._call(method, path, body, accept=(409,))

    def page(self, dag: str, run: str) -> str:
        """The address of the run for people."""
        return f"{self.url}/dags/{_part(dag)}/runs/{_part(run)}"

    def _run(self, dag: str, run: str) -> str:
        return f"/api/v2/dags/{_part(dag)}/dagRuns/{_part(run)}"

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        accept: Sequence[int] = (),
        anonymous: bool = False,
    ) -> dict[str, Any]:
        """The answer's JSON object ({} for a status in `accept`), after as many tries as patience allows."""
        import requests

        # An address that never answered is more likely wrong than restarting.
        deadline = time.monotonic() + (self.patience_s if self._reached else min(self.patience_s, 10))
        pause, logged_in_again = 0.2, False
        while True:
            headers = {} if anonymous else {"Authorization": f"Bearer {self.token()}"}
            try:
                answer = self._session.request(
                    method,
                    self.url + path,
                    json=body,
                    headers={"Accept": "application/json", "Content-Type": "application/json", **headers},
                    timeout=30,
                )
                if answer.ok:
                    self._reached = True
                    document = answer.json() if answer.content else {}
                    return document if isinstance(document, dict) else {}
            except requests.RequestException as error:
                if time.monotonic() > deadline:
                    raise TriggerError(
                        f"no answer: {reason(error)}",
                        where=self.url,
                        next_step="does Airflow, or the port-forward to it, run at this address? `make run` starts one",
                    ) from error
            else:
                if answer.status_code in accept:
                    return {}
                status, text = answer.status_code, answer.content[:20_000].decode(errors="replace")
                # Airflow answers 403 to a token that was signed with an earlier secret.
                token_refused = status == 401 or (status == 403 and "JWT token" in text)
                if token_refused and self._login and not anonymous and not logged_in_again:
                    self._token, logged_in_again = "", True
                    continue
                if not _is_away(status, text) or time.monotonic() > deadline:
                    raise self._error(401 if token_refused else status, method, path, text)
            self._meanwhile()
            time.sleep(pause)
            pause = min(pause * 2, 3)

    def _error(self, status: int, method: str, path: str, text: str) -> TriggerError:
        detail = _detail(text)
        what, next_step = f"{status} {detail}", "see the api-server's log"
        if status == 401:
            what, next_step = "the login was refused", "check the user name and the password (or the token)"
        elif status == 403:
            what, next_step = f"not allowed: {detail}", "this user may not do that; Airflow's role `user` or higher may"
        elif status == 404:
            next_step = "is the name right, and has Airflow parsed the DAG yet? see its page Dags"
        elif status in (400, 422):
            what, next_step = f"refused: {detail}", "correct the values; the DAG's trigger form shows what is allowed"
        return TriggerError(what, where=f"{method} {self.url}{path.split('?')[0]}", next_step=next_step)


def _part(name: str) -> str:
    return quote(name, safe="")


def _is_away(status: int, text: str) -> bool:
    """Whether an answer means that Airflow or its database is away for the moment."""
    if status != 500:
        return status in _AWAY
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        # A database session that breaks after the request was handled leaves a 500 without a document.
        return text.strip() == "Internal Server Error"
    return isinstance(detail, dict) and detail.get("reason") == _DATABASE_AWAY


def _detail(text: str) -> str:
    """Airflow's description of an error, in one line: `detail` is a text or a list of pydantic's errors."""
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:300]
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, item.get('loc', ())))} {item.get('msg', '')}".strip() for item in detail)
    return " ".join(str(detail).split())[:1000]


def _task_state(raw: Mapping[str, Any]) -> TaskState:
    return TaskState(
        task=raw["task_id"],
        map_index=raw["map_index"],
        label=str(raw.get("rendered_map_index") or ""),
        state=raw["state"] or "",
        attempt=raw["try_number"],
        started=_moment(raw["start_date"]),
        ended=_moment(raw["end_date"]),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _log_lines(entry: Any) -> list[str]:
    """The lines of one log record: its event, and the type and message of an error in it."""
    if not isinstance(entry, dict):
        return str(entry).splitlines()
    lines = str(entry.get("event", "")).splitlines()
    if lines and lines[0].startswith("::"):
        return []
    for error in entry.get("error_detail") or ():
        lines.append(f"{error.get('exc_type', 'error')}: {error.get('exc_value', '')}")
    return lines
