"""Runs `testops_run`, or the `dag` of a conf, by `dag.test()` and prints the outcomes as the last line of JSON.

The run `previous` of a conf is the one before.

Started by the tests in a process of its own: Airflow is configured by the environment of the process that imports it.
"""

from __future__ import annotations

import json
import os
import sys

from airflow.dag_processing.dagbag import DagBag


def main() -> None:
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    bag = DagBag(folder, bundle_path=folder, bundle_name="dags-folder")
    outcomes = []
    for conf in json.loads(sys.argv[1]):
        if conf.get("run") == "previous":
            conf["run"] = outcomes[-1]["run"]
        run = bag.dags[conf.pop("dag", "testops_run")].test(run_conf=conf)
        tasks: dict[str, list[str]] = {}
        tries: dict[str, list[int]] = {}
        for task in run.get_task_instances():
            tasks.setdefault(task.task_id, []).append(str(task.state))
            tries.setdefault(task.task_id, []).append(task.try_number)
        outcomes.append({"run": run.run_id, "state": str(run.state), "tasks": tasks, "tries": tries})
    print("\n" + json.dumps(outcomes))


main()
