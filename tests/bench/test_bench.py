from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from bench.__main__ import NAMES
from bench.target import serving
from tests.paths import ROOT


def test_every_benchmark_has_a_module() -> None:
    assert [name for name in NAMES if not (ROOT / "bench" / f"{name}.py").is_file()] == []


def test_a_benchmark_prints_a_table_and_writes_its_figures(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--out", str(tmp_path), "schema"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=ROOT,
    )
    found = json.loads((tmp_path / "schema.json").read_bytes())
    assert found["cores"] and found["time"] and all(row["figure"] > 0 for row in found["rows"])
    assert all(f"| {row['what']}" in done.stdout for row in found["rows"])


def test_each_measured_client_gets_good_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.target.shutil.which", lambda *_, **__: None)  # without nginx
    with serving() as (url, kind, _):
        assert kind == "uvloop"
        for subject in ("bare", "tuned", "plain", "engine", "stream"):
            command = [sys.executable, "-m", "bench.subject", subject, "100", url]
            out = subprocess.check_output(command, timeout=60, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
            assert json.loads(out)["cpu_s"] > 0


def test_the_benchmark_of_pods_is_left_out_without_a_cluster(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--out", str(tmp_path), "pods"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TESTOPS_CLUSTER"},
    )
    assert "TESTOPS_CLUSTER" in done.stdout
    assert json.loads((tmp_path / "pods.json").read_bytes())["rows"] == []


def test_a_slow_target_answers_late() -> None:
    with serving(delay_s=0.3) as (url, kind, _):
        begun = time.monotonic()
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{url}/customers", timeout=20
        ) as answer:
            assert json.load(answer)["page"] == 1
        assert kind == "uvloop" and time.monotonic() - begun >= 0.3
