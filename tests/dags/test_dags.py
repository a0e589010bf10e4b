from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.pipeline import EMPTY
from testops_lib.run import editing as curate
from testops_lib.settings import LAUNCHERS
from testops_lib.store import Store
from testops_lib.target import MAX_ROUNDS, ResolvedRun, RunConf, load
from tests.paths import ROOT
from tests.warm_python import WarmPython

pytestmark = pytest.mark.airflow

HEAVY = (
    *("google.genai", "kubernetes", "kubernetes_asyncio", "sqlalchemy", "alembic", "aiohttp", "asgiref"),
    *("confluent_kafka", "pycurl", "jsonschema_rs", "psycopg", "jinja2.environment", "rich", "click", "difflib"),
    *("testops_lib.run", "testops_lib.bus.client", "airflow.models", "airflow.api", "airflow.providers.cncf"),
)

FILES = sorted(path.stem for path in (ROOT / "dags").glob("*.py"))

PARSE = """
import json, os, sys
sys.path.insert(0, os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
before = set(sys.modules)
__import__(sys.argv[1])
print(json.dumps(sorted(set(sys.modules) - before)))
"""

STRUCTURE = """
import json, os
from testops_airflow.review import OPTIONS
from airflow.dag_processing.dagbag import DagBag
from airflow.utils.file import list_py_file_paths
folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
bag = DagBag(folder, bundle_path=folder, bundle_name="dags-folder")
print("\\n" + json.dumps({
    "errors": bag.import_errors,
    "files": sorted(os.path.basename(path).removesuffix(".py") for path in list_py_file_paths(folder)),
    "options": OPTIONS,
    "dags": {
        name: {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} for name, dag in bag.dags.items()
    },
    "limits": {task.task_id: str(task.execution_timeout) for task in bag.dags["testops_run"].tasks},
    "executes": bag.dags["testops_run"].task_dict["execute"].task_type,
    "deciding": [
        task.task_id for task in bag.dags["testops_run"].tasks
        if (not task.is_teardown or task.on_failure_fail_dagrun)
        and all(down.is_teardown and not down.on_failure_fail_dagrun for down in task.downstream_list)
    ],
    "teardowns": [task.task_id for task in bag.dags["testops_run"].tasks if task.is_teardown],
}))
"""


WAIT = """
import inspect, json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from airflow.sdk.exceptions import TaskDeferred
from kubernetes.client import V1ObjectMeta, V1Pod, V1PodSpec
from testops_airflow.kubernetes import Pod
waits = []
for lives in (None, 1500, 7800):
    pod = Pod(task_id="execute", batch="b", namespace="", kubeconfig="", execution_timeout=timedelta(minutes=30))
    spec = V1PodSpec(containers=[], active_deadline_seconds=lives)
    pod.pod = V1Pod(metadata=V1ObjectMeta(name="n", namespace="default"), spec=spec)
    # Airflow's operator passes the context only where the method names it.
    assert "context" in inspect.signature(pod.invoke_defer_method).parameters
    try:
        pod.invoke_defer_method(context={"ti": SimpleNamespace(start_date=datetime.now(timezone.utc))})
    except TaskDeferred as deferred:
        waits.append(deferred.timeout.total_seconds())
print(json.dumps(waits))
"""


def printed(python: WarmPython, code: str, *arguments: str, **variables: str) -> Any:
    """The JSON that the code prints as its last line."""
    done = python.run(code, arguments, variables=variables)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().rpartition("\n")[2])


def test_the_dags_have_their_shape(airflow: WarmPython) -> None:
    found = printed(airflow, STRUCTURE)
    assert found["errors"] == {}
    assert found["files"] == FILES, "what DAG files share is no DAG file"
    tasks = found["dags"]["testops_run"]
    stages = [
        "open_run",
        "load_spec",
        "generate",
        "review",
        "publish",
        "execute",
        "repeat",
        "execute_last",
        "collect",
        "analyze",
        "gate",
    ]
    assert all(after in tasks[before] for before, after in pairwise(stages))
    assert "publish" in tasks["generate"], "a run without a review goes on"
    rounds = [f"round_{number}" for number in range(1, MAX_ROUNDS + 1)]
    assert sorted({name.partition(".")[0] for name in tasks if "." in name}) == rounds
    steps = [
        "execute",
        *(f"{each}.{name}" for each in rounds for name in ("find_gaps", "generate", "publish", "execute")),
    ]
    assert all(after in tasks[before] for before, after in pairwise(steps))
    assert set(tasks["rounds"]) == set(steps[1:]), "without rounds all are skipped at once, not one after the other"
    assert all("repeat" in tasks[each] for each in steps if each.endswith("execute"))
    assert found["options"] == [curate.APPROVE, curate.CHOOSE, curate.REJECT]
    assert found["dags"]["testops_regenerate"] == {"regenerate": []}
    assert found["teardowns"] == ["gate", "notify"], "they run also when a person ends the run"
    assert found["deciding"] == ["gate"], "a run takes its state from these"
    tasks = found["dags"]["testops_rerun"]
    stages = ["begin", "publish", "execute", "execute_last", "collect", "analyze", "gate"]
    assert all(after in tasks[before] for before, after in pairwise(stages))
    scheduled = {name for name in found["dags"] if name.startswith("testops_nightly_")}
    assert "testops_nightly_shop" in scheduled


FORM = """
import json, os
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import ParamValidationError
folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
bag = DagBag(folder, bundle_path=folder, bundle_name="dags-folder")

def takes(name, conf):
    try:
        params = bag.dags[name].params.__class__(dict(bag.dags[name].params.items()))
        for key, value in conf.items():
            params[key] = value
        params.validate()
        return True
    except ParamValidationError:
        return False

run = bag.dags["testops_run"]
print("\\n" + json.dumps({
    "empty": [takes("testops_run", {}), takes("testops_rerun", {}), takes("testops_rerun", {"run": ""})],
    "full": [takes("testops_run", {"target": "shop"}), takes("testops_run", {"target": "other-document", "spec": "a"}),
             takes("testops_rerun", {"run": "shop__1"})],
    "sections": list(dict.fromkeys(run.params.get_param(name).schema.get("section") for name in run.params)),
    "docs": {name: dag.doc_md for name, dag in bag.dags.items() if not name.startswith("testops_nightly_")},
    "waits": {
        task.task_id: sum(
            min(task.retry_delay.total_seconds() * task.retry_exponential_backoff ** number,
                task.max_retry_delay.total_seconds())
            for number in range(task.retries)
        )
        for task in run.tasks
    },
    "links": {
        name: [link.name for link in run.get_task(name).operator_extra_links] for name in ("analyze", "gate", "notify")
    },
}))
"""


def test_the_dags_speak_to_their_users(airflow: WarmPython) -> None:
    found = printed(airflow, FORM)
    assert found["empty"] == [False] * 3, "an empty order is refused by the form"
    assert found["full"] == [True] * 3
    assert found["sections"] == ["What is tested", "Which part of it", "Where its cases come from"]
    assert all("**To start" in text and "XCom" not in text for text in found["docs"].values())
    assert min(found["waits"].values()) > 120, "an API server may be away for two minutes before a task gives up"
    assert found["links"] == {name: ["Report"] for name in ("analyze", "gate", "notify")}


NIGHTLY = """
import json, os
from airflow.dag_processing.dagbag import DagBag
folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
bag = DagBag(folder, bundle_path=folder, bundle_name="dags-folder")
print("\\n" + json.dumps({
    "errors": bag.import_errors,
    "dags": {name: dag.doc_md for name, dag in bag.dags.items() if name.startswith("testops_nightly_")},
}))
"""


def test_a_wrong_target_file_spoils_only_its_own_dag_which_says_why(airflow: WarmPython, tmp_path: Path) -> None:
    good = "spec: https://h/openapi.json\nschedule: '0 3 * * *'\n"
    files = {
        "good": good,
        "My API": good,
        "My\nAPI": good,
        "empty": "",
        "no-yaml": "spec: [",
        "no-key": good + "polic: {}\n",
        "no-cron": good.replace("0 3 * * *", "every night"),
        "on-demand": "spec: https://h/openapi.json\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text, "utf-8")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    found = printed(airflow, NIGHTLY, TESTOPS_TARGETS_DIR=str(tmp_path))
    assert found["errors"] == {}
    docs = {name.removeprefix("testops_nightly_"): text for name, text in found["dags"].items()}
    assert docs.pop("good").startswith("Tests the target **good**")
    assert sorted(name for name in docs if not name.startswith("My_API")) == [
        "bytes",
        "empty",
        "no-cron",
        "no-key",
        "no-yaml",
    ]
    assert len([name for name in docs if name.startswith("My_API")]) == 2
    assert all("its file is wrong" in text for text in docs.values())
    assert "did you mean `policy`" in docs["no-key"] and "no-cron.yaml" in docs["no-cron"]


def test_in_pods_the_run_dag_has_the_same_tasks(airflow: WarmPython) -> None:
    found = printed(airflow, STRUCTURE)
    pods = {"TESTOPS_LAUNCHER": "kubernetes", "TESTOPS_RUNNER_IMAGE": "testops-runner:1"}
    in_pods = printed(airflow, STRUCTURE, **pods)
    assert in_pods["errors"] == {}
    assert in_pods["dags"] == found["dags"]
    assert (found["executes"], in_pods["executes"]) == ("RunnerProcessOperator", "RunnerPodOperator")


def test_with_a_fleet_the_run_dag_has_the_same_tasks(airflow: WarmPython) -> None:
    found = printed(airflow, STRUCTURE)
    by_fleet = printed(airflow, STRUCTURE, TESTOPS_LAUNCHER="fleet")
    assert by_fleet["errors"] == {}
    assert by_fleet["dags"] == found["dags"]
    assert by_fleet["executes"] == "FleetOperator"
    assert by_fleet["limits"] == found["limits"] | {
        name: "None" for name in found["limits"] if name.endswith(("execute", "execute_last"))
    }, "its orders expire instead"


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("file", FILES)
def test_parsing_a_dag_file_imports_nothing_heavy(airflow_sdk: WarmPython, file: str, launcher: str) -> None:
    imported = printed(airflow_sdk, PARSE, file, TESTOPS_LAUNCHER=launcher)
    assert file in imported
    assert [name for name in imported if f"{name}.".startswith(tuple(f"{each}." for each in HEAVY))] == []


LAUNCH = """
import sys
from types import SimpleNamespace
from testops_airflow.launcher import RunnerProcessOperator
operator = RunnerProcessOperator(task_id="t", run="r", plan="p:0:0-1", batch="b:0:0-1", results="wrong", attempt=1)
try:
    ti = SimpleNamespace(try_number=int(sys.argv[1]), xcom_push=lambda key, value: print(f"{key}: {value}"))
    operator.execute({"ti": ti})
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(("number", "looked"), [(1, False), (2, True)])
def test_only_a_repeated_task_looks_for_earlier_results(airflow: WarmPython, number: int, looked: bool) -> None:
    done = airflow.run(LAUNCH, [str(number)])
    said = done.stdout + done.stderr
    assert "AirflowFailException" in said and "cause: t: the runner refused its configuration: " in said, said
    assert ("'wrong' are no positions" in said, "TESTOPS_KAFKA_BOOTSTRAP" in said) == (looked, not looked), said


RETRIES = """
import json
from types import SimpleNamespace
from testops_lib import errors
from testops_airflow.retries import POLICY
causes = []
context = {"ti": SimpleNamespace(task_id="load_spec", xcom_push=lambda key, value: causes.append(value))}
wrong, away = errors.SpecError("wrong"), errors.SpecAwayError("away")
raised = [errors.TargetError("t"), wrong, away, errors.BusError("b"), KeyError(1)]
print(json.dumps({
    "actions": {
        type(error).__name__: [POLICY.evaluate(error, number, 5, context).action.value for number in (1, 2, 6)]
        for error in raised
    },
    "causes": causes,
}))
"""


def test_a_task_is_tried_again_as_often_as_that_may_help(airflow: WarmPython) -> None:
    found = printed(airflow, RETRIES)
    assert found["actions"] == {
        "TargetError": ["fail"] * 3,
        "SpecError": ["default", "fail", "fail"],
        "SpecAwayError": ["default"] * 3,
        "BusError": ["default"] * 3,
        "KeyError": ["default", "fail", "fail"],
    }
    # Each time it was the task's last try, and once more where five were not enough.
    assert found["causes"] == [
        *["load_spec: t"] * 3,
        *["load_spec: wrong"] * 2,
        "load_spec: away",
        "load_spec: b",
        *["load_spec: KeyError, see the task's log"] * 2,
    ]


def test_a_try_that_is_started_over_looks_for_earlier_results(airflow: WarmPython, store: Store, postgres: str) -> None:
    store.open_run("r", "shop")
    looked = []
    for _ in range(2):
        done = airflow.run(LAUNCH, ["1"], variables={"TESTOPS_DSN": postgres})
        looked.append("'wrong' are no positions" in done.stdout + done.stderr)
    assert looked == [False, True]


CONNECTIONS = """
import os
from testops_airflow.launcher import RunnerProcessOperator
operator = RunnerProcessOperator(task_id="t", run="r", plan="p", batch="b", results="", target="pets")
try:
    print(sorted(operator._credentials(os.environ).items()))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""

PETS = """
spec: https://h/openapi.json
base_url: https://h
auth:
  - name: ann
    basic: {username: "${CONN_PETS_LOGIN}", password: "${CONN_PETS_PASSWORD}"}
    apiKey: {name: X-Key, value: "${CONN_PETS_EXTRA_API_KEY}"}
  - {name: bob, bearer: "${BOBS_TOKEN}"}
"""


@pytest.mark.parametrize(
    ("connection", "more", "said"),
    [
        (
            {"conn_type": "http", "login": "ann", "password": "pw-of-ann", "extra": {"api_key": "key-of-ann"}},
            {},
            "[('CONN_PETS_EXTRA_API_KEY', 'key-of-ann'), ('CONN_PETS_LOGIN', 'ann'), "
            "('CONN_PETS_PASSWORD', 'pw-of-ann')]",
        ),
        (
            {"conn_type": "http", "login": "ann", "extra": {"api_key": "k"}},
            {"CONN_PETS_PASSWORD": "of the environment"},
            "[('CONN_PETS_EXTRA_API_KEY', 'k'), ('CONN_PETS_LOGIN', 'ann')]",
        ),
        ({"conn_type": "http", "login": "ann", "extra": {"api_key": "k"}}, {}, "connection 'pets' has no password"),
        (None, {}, "Airflow has no connection 'pets'"),
    ],
)
def test_credentials_may_come_from_airflows_connections(
    airflow: WarmPython,
    tmp_path: Path,
    store: Store,
    postgres: str,
    connection: Mapping[str, object] | None,
    more: Mapping[str, str],
    said: str,
) -> None:
    (tmp_path / "pets.yaml").write_text(PETS, "utf-8")
    store.open_run("r", "pets", resolved=ResolvedRun(conf=RunConf(target="pets"), target=load(tmp_path / "pets.yaml")))
    known = {"AIRFLOW_CONN_PETS": json.dumps(connection)} if connection else {}
    done = airflow.run(CONNECTIONS, variables={**known, **more, "TESTOPS_DSN": postgres})
    assert done.returncode == 0 and said in done.stdout, done.stderr


FLEET = """
import json
from datetime import datetime, timezone
from types import SimpleNamespace
from testops_airflow.fleet import FleetOperator, FleetTrigger
from airflow.triggers.base import BaseTrigger
from testops_lib.launch.fleet import OrderProgress
import msgspec

def became(call):
    try:
        call()
        return "done", ""
    except BaseException as error:
        return type(error).__name__, str(error)

ti = SimpleNamespace(xcom_push=lambda key, value: None)

def operator(batches):
    return FleetOperator(task_id="execute", run="r", plan="p:0:0-1", batches=batches, results="0:0")

def ended(*codes, **more):
    progress = OrderProgress(ended={f"b:{number}": (code, "text") for number, code in enumerate(codes)}, **more)
    return became(lambda: operator(["b:0"]).finish({"ti": ti}, msgspec.to_builtins(progress)))

trigger = FleetTrigger(run="r", orders={"id": "b:0"}, outcomes="0:7", expires=datetime.now(timezone.utc).isoformat())
path, kwargs = trigger.serialize()
print(json.dumps({
    "empty": [became(lambda: operator(none).execute({}))[0] for none in ([], None)],
    "away": ended(0, 3, 1), "done": ended(0, 0), "again": ended(0, 1), "refused": ended(0, 1, 2),
    "never": ended(waiting=("b:1", "b:2")), "dead": ended(0, begun=("b:1",)),
    "path": path, "kwargs": sorted(kwargs), "same": FleetTrigger(**kwargs).serialize() == (path, kwargs),
}))
"""


def test_what_a_fleet_says_becomes_the_state_of_its_task(airflow: WarmPython) -> None:
    found = printed(airflow, FLEET)
    assert found["empty"] == ["AirflowSkipException"] * 2
    assert found["done"] == ["done", ""]
    assert found["away"][0] == "TaskDeferred", "a target that is down is waited for without a worker"
    assert found["again"][0] == "AirflowException" and "1 batch not completed, first b:1: text" in found["again"][1]
    assert found["refused"][0] == "AirflowFailException" and "refused" in found["refused"][1]
    assert found["never"][0] == "AirflowException" and "2 batches never taken: is the fleet up" in found["never"][1]
    assert found["dead"][0] == "AirflowException" and "is their runner alive" in found["dead"][1]
    assert found["path"] == "testops_airflow.fleet.FleetTrigger" and found["same"]
    assert found["kwargs"] == ["down_since", "expires", "orders", "outcomes", "run"], (
        "what lies in the database in the clear"
    )


@pytest.mark.parametrize("folder", ["dags", "plugins", "runner"])
def test_rooms_never_import_each_other(folder: str) -> None:
    others = {"dags", "plugins", "runner"} - {folder}
    barred = others | {path.stem for other in others for path in (ROOT / other).glob("*.py") if path.stem[0] != "_"}
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & barred, path


def test_a_task_waits_for_its_pod_as_long_as_that_may_live(airflow: WarmPython) -> None:
    unlimited, usual, long = printed(airflow, WAIT)
    assert 1800 <= unlimited < 1900
    assert 1500 < usual < 2300
    assert 7800 < long < 8600


ALIKE = """
import json, os
from airflow.dag_processing.dagbag import DagBag
folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
bag = DagBag(folder, bundle_path=folder, bundle_name="dags-folder")
def shape(dag):
    return {
        task.task_id: [
            sorted(task.downstream_task_ids), str(task.trigger_rule), task.retries, task.is_setup, task.is_teardown,
            task.is_mapped, task.pool, task.max_active_tis_per_dagrun, sorted(task.template_fields), len(task.outlets),
        ]
        for task in dag.tasks
    }
print("\\n" + json.dumps([bag.import_errors, shape(bag.dags["empty_run"]), shape(bag.dags["testops_run"])]))
"""


def test_the_empty_run_of_the_benchmark_has_the_tasks_of_the_real_one(airflow: WarmPython, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dags", tmp_path / "dags")
    (tmp_path / "dags/empty_run.py").write_text(EMPTY, "utf-8")
    errors, empty, real = printed(airflow, ALIKE, AIRFLOW__CORE__DAGS_FOLDER=str(tmp_path / "dags"))
    assert errors == {}
    assert empty == real
