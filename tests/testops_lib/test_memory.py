"""What the stages of a run take of memory: next to nothing for each further case."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testops_lib.bus.client import Bus
from testops_lib.model import Generation, Provenance, Request, Result, StatusCodeConformance, Step, make_case
from testops_lib.store import Store
from tests.paths import ROOT
from tests.suite_target import zoo_target

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

FURTHER_MB = 45
"""For so many cases more: what is on its way at a time differs by some 30 MB, and 200 bytes a case are 6 MB."""
STAGE = """
import re, sys
from pathlib import Path
from testops_lib import settings
from testops_lib.run.collect import collect_run
from testops_lib.run.publish import publish
stage, run = sys.argv[1:]
{"publish": publish, "collect": collect_run}[stage](run, settings.read())
# not ru_maxrss: a process inherits that of its parent
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""
SMALL, LARGE = 10_000, 40_000


def filled(store: Store, run: str, count: int) -> None:
    """Cases as large as those of usual documents, about operations of the document."""
    operations = ["GET /pets", "GET /shops", "GET /toys"]
    for first in range(0, count, 5000):
        cases = [
            make_case(
                name=f"case {number}",
                intent="positive",
                operation=operations[number % 3],
                tags=("alone",),
                steps=(
                    Step(
                        operation=operations[number % 3],
                        request=Request(method="GET", path="/pets", query=(("n", str(number)), ("text", "x" * 1500))),
                        checks=(StatusCodeConformance(),),
                    ),
                ),
                origin=Provenance(source="rules"),
            )
            for number in range(first, first + 5000)
        ]
        store.save_cases(run, f"0-{first:06}-rules", cases, Generation(source="rules"))


def peak_mb(stage: str, run: str, environment: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", STAGE, stage, run],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout.strip().rpartition("\n")[2])


@pytest.mark.long
def test_publishing_and_collecting_take_next_to_nothing_for_each_further_case(
    tmp_path: Path, postgres: str, kafka: str
) -> None:
    peaks: dict[str, list[float]] = {"publish": [], "collect": []}
    with zoo_target(tmp_path, postgres) as zoo, Store(postgres) as store, Bus(kafka) as bus:
        bus.create_topics(partitions=2)
        zoo.sources = ("rules",)
        environment: dict[str, Any] = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TESTOPS_DSN": postgres,
            "TESTOPS_KAFKA_BOOTSTRAP": kafka,
            "TESTOPS_TARGETS_DIR": str(tmp_path),
        }
        for count in (SMALL, LARGE):
            zoo.run()
            filled(store, zoo.name, count)
            peaks["publish"].append(peak_mb("publish", zoo.name, environment))
            assert store.published(zoo.name) >= count
            with bus.results.writer() as writer:
                for case in store.read_cases(zoo.name):
                    if case.name != "case 7":
                        result = Result(run=zoo.name, case=case.id, verdict="errored", reason="x" * 2000)
                        writer.write(result)
            peaks["collect"].append(peak_mb("collect", zoo.name, environment))
            assert store.without_result(zoo.name) == 1
    assert all(large - small <= FURTHER_MB and large <= 150 for small, large in peaks.values()), peaks
