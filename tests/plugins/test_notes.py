"""What Airflow's list of runs says of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.airflow

NOTES = """
import json, sys
sys.path.insert(0, sys.argv[1])
from testops_notes import note
closed = {"verdict": "failed", "reasons": ["max_findings: 3 findings, at most 0 allowed", "no_result: 1 case"]}
print(json.dumps([
    note({"target": "shop"}, {"verdict": "passed", "reasons": []}),
    note({"target": "shop"}, closed),
    note({"target": "other-document", "spec": "https://h/openapi.json"}, {}),
    note({"run": "shop__1"}, {"verdict": "none", "reasons": ["x" * 900]})[:31],
    len(note({"run": "shop__1"}, {"verdict": "none", "reasons": ["x" * 900]})),
]))
"""


def test_a_note_tells_target_and_outcome(tmp_path: Path) -> None:
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-c", NOTES, str(ROOT / "plugins")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [
        "shop: gate passed",
        "shop: gate closed: max_findings: 3 findings, at most 0 allowed; no_result: 1 case",
        "https://h/openapi.json: no verdict",
        "rerun of shop__1: no verdict: x",
        300,
    ]
