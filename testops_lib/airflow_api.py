"""Airflow's REST API from outside: start a DAG run, follow it, read its logs, clear its tasks.

Standard library alone. Every call survives an API server, or a database behind it, that restarts: it is repeated with
growing pauses until `patience_s` is over. Starting a run is repeatable as well, since the run's id is chosen here.
"""

from __future__ import annotations

import http.client
import json
import re
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from testops_lib.errors import TriggerError
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
"""Airflow's word for its database being away, which it answers with 500."""


MOST_CAUSES = 3
"""Of a run's failures that are looked into."""

WAITS = "awaiting_input"
"""A task's state while a person is asked, as the review is."""


class TaskState(Value, frozen=True, kw_only=True):
    """One task instance of a run."""

    task: str
    map_index: int = -1
    """-1: the task is not mapped."""
    label: str = ""
    """What stands for the map index."""
    state: str = ""
    """Airflow's word (`running`, `success`, `failed`, `upstream_failed`, …); "" while it has none."""
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
    """Since we began to look."""

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED


class Outcome(Value, frozen=True, kw_only=True):
    """How a run ended."""

    verdict: Literal["passed", "failed", "none"] = "none"
    """passed: the gate ran and passed; failed: it ran and did not; none: there is no verdict."""
    reasons: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """The exit code of whoever asked for the run."""
        return {"passed": 0, "failed": 1, "none": 2}[self.verdict]

    @property
    def words(self) -> str:
        """The verdict for people."""
        return {"passed": "the gate passed", "failed": "the gate is closed", "none": "no verdict"}[self.verdict]


class Airflow:
    """A client of one Airflow, by user name and password or by a ready `token`.

    `meanwhile` is called before each further try of a call, while Airflow is away.
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
        # A proxy of the environment knows nothing of this machine's own servers.
        local = parts.hostname in ("127.0.0.1", "localhost", "::1")
        self._opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))

    def token(self) -> str:
        """The token of the login, fetched once (Airflow's is valid for a day) and again when it is refused.

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
        """The id of the run: a new one, which begins with `name`, or the one of that id that exists already.

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
        """Let the runs of `dag` begin; nothing happens if they may already."""
        if self.is_paused(dag):
            self._call("PATCH", f"/api/v2/dags/{_part(dag)}?update_mask=is_paused", {"is_paused": False})

    def state(self, dag: str, run: str) -> str:
        """`queued`, `running`, `success` or `failed`."""
        return str(self._call("GET", self._run(dag, run))["state"])

    def task_states(self, dag: str, run: str) -> tuple[TaskState, ...]:
        """All task instances, in Airflow's order (by task, then by map index)."""
        found: list[dict[str, Any]] = []
        while True:
            query = urlencode({"limit": PAGE, "offset": len(found)})
            page = self._call("GET", f"{self._run(dag, run)}/taskInstances?{query}")
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return tuple(map(_task_state, found))

    def snapshot(self, dag: str, run: str, *, since: float | None = None) -> Snapshot:
        """The run now; `since` is the `time.monotonic()` from which `elapsed_s` counts."""
        # The run's state first: tasks read after "success" are final, the other way round they may be stale.
        state = self.state(dag, run)
        elapsed = 0 if since is None else time.monotonic() - since
        return Snapshot(run=run, state=state, tasks=self.task_states(dag, run), elapsed_s=elapsed)

    def wait(self, dag: str, run: str, *, timeout_s: float = 3600, interval_s: float = 1) -> Iterator[Snapshot]:
        """A snapshot every `interval_s` seconds; the last one is finished.

        Raises:
            TriggerError: the run has not finished within `timeout_s`; it goes on in Airflow.
        """
        begun = time.monotonic()
        while True:
            seen = self.snapshot(dag, run, since=begun)
            yield seen
            if seen.is_finished:
                return
            if time.monotonic() - begun > timeout_s:
                raise TriggerError(
                    f"not finished after {timeout_s:.0f} s (it is {seen.state})",
                    where=run,
                    next_step=f"it goes on: {self.page(dag, run)}",
                )
            time.sleep(interval_s)

    def outcome(self, dag: str, run: str) -> Outcome:
        """How the run ended: by what its gate wrote down, and never better than the run's own state."""
        seen = self.snapshot(dag, run)
        if not seen.is_finished:
            return Outcome(reasons=(f"the run is {seen.state or 'not known'}",))
        gate = next((task for task in seen.tasks if task.task == GATE), None)
        if gate is None or gate.state not in FINISHED:
            return Outcome(reasons=self._causes(dag, run, seen.tasks))
        path = f"{self._run(dag, run)}/taskInstances/{GATE}/xcomEntries/outcome?stringify=false"
        said = self._call("GET", path, accept=(404,)).get("value")
        if not isinstance(said, dict):
            return Outcome(reasons=self._causes(dag, run, seen.tasks) or ("somebody marked the gate",))
        reasons = tuple(map(str, said.get("reasons") or ()))
        if said.get("verdict") == "passed" and seen.state == "success" and gate.state == "success":
            return Outcome(verdict="passed")
        if said.get("verdict") == "failed":
            return Outcome(verdict="failed", reasons=reasons)
        return Outcome(reasons=reasons or self._causes(dag, run, seen.tasks))

    def _causes(self, dag: str, run: str, tasks: Iterable[TaskState]) -> tuple[str, ...]:
        """Why tasks failed, by their own words where they left some."""
        failed = [task for task in tasks if task.state == "failed"]
        causes: dict[str, None] = {}
        for task in failed[:MOST_CAUSES]:
            path = f"{self._run(dag, run)}/taskInstances/{_part(task.task)}/xcomEntries/cause"
            if said := self._call("GET", f"{path}?map_index={task.map_index}", accept=(404,)).get("value"):
                causes[str(said)] = None
        return tuple(causes) or tuple(dict.fromkeys(f"task {task.task} failed, see its log" for task in failed))

    def log_tail(self, dag: str, run: str, task: TaskState, *, lines: int = 20) -> str:
        """The last lines of the log of a task's last attempt; "" when it has none."""
        place = f"{self._run(dag, run)}/taskInstances/{_part(task.task)}/logs/{max(1, task.attempt)}"
        query = urlencode({"map_index": task.map_index, "full_content": "true"})
        answer = self._call("GET", f"{place}?{query}", accept=(404,))
        entries = answer.get("content") or []
        shown = [line for entry in entries for line in _log_lines(entry)]
        return "\n".join(shown[-lines:])

    def clear(self, dag: str, run: str, tasks: Sequence[str]) -> int:
        """Let tasks (all their map indexes) and everything after them run again; how many instances were cleared."""
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
        """Let the tasks that failed, and what came after them, run again; how many instances were cleared."""
        failed = dict.fromkeys(task.task for task in self.task_states(dag, run) if task.state == "failed")
        return self.clear(dag, run, list(failed)) if failed else 0

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """The JSON object at a path of the REST API (`/api/v2/…`)."""
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path)

    def put(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        """Lay something down by `POST`, `PUT` or `PATCH`; that it is there already (409) is well."""
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
        # An address that never answered is more likely wrong than restarting.
        deadline = time.monotonic() + (self.patience_s if self._reached else min(self.patience_s, 10))
        pause, renewed = 0.2, False
        while True:
            request = urllib.request.Request(
                self.url + path,
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Accept": "application/json", "Content-Type": "application/json"},
            )
            if not anonymous:
                request.add_header("Authorization", f"Bearer {self.token()}")
            try:
                with self._opener.open(request, timeout=30) as answer:
                    self._reached = True
                    found = {} if answer.status == 204 else json.load(answer)
                    return found if isinstance(found, dict) else {}
            except urllib.error.HTTPError as refused:
                with refused:
                    said = refused.read(20_000).decode(errors="replace")
                if refused.code in accept:
                    return {}
                # A token signed with another secret than today's is told with 403.
                unknown = refused.code == 401 or (refused.code == 403 and "JWT token" in said)
                if unknown and self._login and not anonymous and not renewed:
                    self._token, renewed = "", True
                    continue
                if not _is_away(refused.code, said) or time.monotonic() > deadline:
                    raise self._error(401 if unknown else refused.code, method, path, said) from refused
            except (OSError, http.client.HTTPException, ValueError) as error:
                if time.monotonic() > deadline:
                    reason = getattr(error, "reason", None) or error
                    raise TriggerError(
                        f"no answer: {reason}",
                        where=self.url,
                        next_step="is Airflow's api-server running at this address? `make run` starts one",
                    ) from error
            self._meanwhile()
            time.sleep(pause)
            pause = min(pause * 2, 3)

    def _error(self, status: int, method: str, path: str, said: str) -> TriggerError:
        detail = _detail(said)
        what, following = f"{status} {detail}", "see the api-server's log"
        if status == 401:
            what, following = "the login was refused", "check the user name and the password (or the token)"
        elif status == 403:
            what, following = f"not allowed: {detail}", "this user may not do that; Airflow's role `user` or higher may"
        elif status == 404:
            following = "is the name right, and has Airflow parsed the DAG yet? see its page Dags"
        elif status in (400, 422):
            what, following = f"refused: {detail}", "correct the values; the DAG's trigger form shows what is allowed"
        return TriggerError(what, where=f"{method} {self.url}{path.split('?')[0]}", next_step=following)


def _part(name: str) -> str:
    return quote(name, safe="")


def _is_away(status: int, said: str) -> bool:
    """Whether an answer means that Airflow, or its database, is away for the moment."""
    if status != 500:
        return status in _AWAY
    try:
        detail = json.loads(said)["detail"]
    except (ValueError, KeyError, TypeError):
        # The bare 500 of a request whose session broke after it was answered.
        return said.strip() == "Internal Server Error"
    return isinstance(detail, dict) and detail.get("reason") == _DATABASE_AWAY


def _detail(said: str) -> str:
    """What Airflow says about an error, in one line: `detail` is a text, or a list of pydantic's findings."""
    try:
        detail = json.loads(said)["detail"]
    except (ValueError, KeyError, TypeError):
        return " ".join(said.split())[:300]
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, each.get('loc', ())))} {each.get('msg', '')}".strip() for each in detail)
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
    shown = str(entry.get("event", "")).splitlines()
    if shown and shown[0].startswith("::"):
        return []
    for error in entry.get("error_detail") or ():
        shown.append(f"{error.get('exc_type', 'error')}: {error.get('exc_value', '')}")
    return shown
