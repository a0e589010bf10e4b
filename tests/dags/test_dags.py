from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from bench.pipeline import EMPTY
from testops_lib.run import review
from testops_lib.settings import LAUNCHERS, MAX_ROUNDS
from tests.airflow_python import printed
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


def test_the_dags_have_their_shape(airflow: WarmPython) -> None:
    parsed = printed(airflow, STRUCTURE)
    assert parsed["errors"] == {}
    assert parsed["files"] == FILES, "what DAG files share is no DAG file"
    tasks = parsed["dags"]["testops_run"]
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
        *(f"{number}.{name}" for number in rounds for name in ("find_gaps", "generate", "publish", "execute")),
    ]
    assert all(after in tasks[before] for before, after in pairwise(steps))
    assert set(tasks["rounds"]) == set(steps[1:]), "without rounds all are skipped at once, not one after the other"
    assert all("repeat" in tasks[step] for step in steps if step.endswith("execute"))
    assert parsed["options"] == [review.APPROVE, review.CHOOSE, review.REJECT]
    assert parsed["dags"]["testops_regenerate"] == {"regenerate": []}
    assert parsed["teardowns"] == ["gate", "notify"], "they run also when a person ends the run"
    assert parsed["deciding"] == ["gate"], "a run takes its state from these"
    tasks = parsed["dags"]["testops_rerun"]
    stages = ["begin", "publish", "execute", "execute_last", "collect", "analyze", "gate"]
    assert all(after in tasks[before] for before, after in pairwise(stages))
    scheduled = {name for name in parsed["dags"] if name.startswith("testops_nightly_")}
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
    parsed = printed(airflow, FORM)
    assert parsed["empty"] == [False] * 3, "the form refuses an empty conf"
    assert parsed["full"] == [True] * 3
    assert parsed["sections"] == ["What is tested", "Which part of it", "Where its cases come from"]
    assert all("**To start" in text and "XCom" not in text for text in parsed["docs"].values())
    assert min(parsed["waits"].values()) > 120, "an API server may be away for two minutes before a task gives up"
    assert parsed["links"] == {name: ["Report"] for name in ("analyze", "gate", "notify")}


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
    parsed = printed(airflow, NIGHTLY, TESTOPS_TARGETS_DIR=str(tmp_path))
    assert parsed["errors"] == {}
    docs = {name.removeprefix("testops_nightly_"): text for name, text in parsed["dags"].items()}
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
    in_processes = printed(airflow, STRUCTURE)
    pods = {"TESTOPS_LAUNCHER": "kubernetes", "TESTOPS_RUNNER_IMAGE": "testops-runner:1"}
    in_pods = printed(airflow, STRUCTURE, **pods)
    assert in_pods["errors"] == {}
    assert in_pods["dags"] == in_processes["dags"]
    assert (in_processes["executes"], in_pods["executes"]) == ("RunnerProcessOperator", "RunnerPodOperator")


def test_with_a_fleet_the_run_dag_has_the_same_tasks(airflow: WarmPython) -> None:
    in_processes = printed(airflow, STRUCTURE)
    by_fleet = printed(airflow, STRUCTURE, TESTOPS_LAUNCHER="fleet")
    assert by_fleet["errors"] == {}
    assert by_fleet["dags"] == in_processes["dags"]
    assert by_fleet["executes"] == "FleetOperator"
    assert by_fleet["limits"] == in_processes["limits"] | {
        name: "None" for name in in_processes["limits"] if name.endswith(("execute", "execute_last"))
    }, "its orders expire instead"


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("file", FILES)
def test_parsing_a_dag_file_imports_nothing_heavy(airflow_sdk: WarmPython, file: str, launcher: str) -> None:
    imported = printed(airflow_sdk, PARSE, file, TESTOPS_LAUNCHER=launcher)
    assert file in imported
    assert [name for name in imported if f"{name}.".startswith(tuple(f"{module}." for module in HEAVY))] == []


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


FIRST_RUNS = """
import json, os
from datetime import datetime, timezone
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
bag = DagBag(folder, bundle_path=folder, bundle_name="dags-folder")
now = datetime.now(timezone.utc)
first = {}
for name, dag in bag.dags.items():
    if name.startswith("testops_nightly_"):
        scheduled = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        first[name] = scheduled.next_dagrun_info(last_automated_run_info=None).run_after > now
print("\\n" + json.dumps([bag.import_errors, first]))
"""


def test_a_new_target_waits_for_its_hour(airflow: WarmPython, tmp_path: Path) -> None:
    """Airflow would make up for the last hour at once, beside whatever is asked of a new installation."""
    text = (ROOT / "targets/shop.yaml").read_text("utf-8")
    for hour in range(24):
        (tmp_path / f"at_{hour}.yaml").write_text(text.replace('"0 3 * * *"', f'"0 {hour} * * *"'), "utf-8")
    errors, in_the_future = printed(airflow, FIRST_RUNS, TESTOPS_TARGETS_DIR=str(tmp_path))
    assert errors == {} and len(in_the_future) == 24
    assert set(in_the_future.values()) == {True}
