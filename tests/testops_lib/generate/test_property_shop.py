"""Random cases against the sample shop: what is wrong is found once, what is right is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stack.samples import Sample
from tests.command_line import cli
from tests.testops_lib.cli.test_cli import DEFECTS, authorization, try_shop

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]

RANDOM = ("--source", "property", "--examples", "3")


def findings(out: Path) -> list[tuple[str, str]]:
    report = json.loads((out / "report.json").read_bytes())
    return sorted((finding["operation"], finding["check"]) for finding in report["findings"])


def test_rules_and_random_cases_find_every_seeded_defect_once(defective_shop: Sample, tmp_path: Path) -> None:
    done = try_shop(defective_shop, tmp_path, "--source", "rules", *RANDOM)
    assert done.returncode == 1, done.stderr
    assert findings(tmp_path) == sorted((defect["operation"], defect["check"]) for defect in DEFECTS)


@pytest.mark.parametrize("seed", [1, 20_261_125])
def test_a_sound_api_has_no_finding_whatever_the_seed(sound_shop: Sample, tmp_path: Path, seed: int) -> None:
    done = try_shop(sound_shop, tmp_path, *RANDOM, "--seed", str(seed))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert report["findings"] == [] and report["totals"]["results"]["passed"] > 150


def test_a_random_finding_is_shown_by_its_smallest_request_and_kept(defective_shop: Sample, tmp_path: Path) -> None:
    chosen = ("--operations", "POST /subscriptions", "--operations", "POST /categories")
    done = try_shop(defective_shop, tmp_path, *RANDOM, *chosen, "--shrink")
    assert done.returncode == 1, done.stderr
    assert findings(tmp_path) == [
        ("POST /categories", "status_code_conformance"),
        ("POST /subscriptions", "not_a_server_error"),
    ]
    kept = [
        json.loads(line)["case"]
        for line in (tmp_path / "regression.jsonl").read_text().splitlines()
        if '"case"' in line
    ]
    assert {case["operation"] for case in kept} == {"POST /subscriptions", "POST /categories"}
    assert all("regression" in case["tags"] and case["origin"]["source"] == "property" for case in kept)
    examples = [each["example"]["case"] for each in json.loads((tmp_path / "report.json").read_bytes())["findings"]]
    assert sorted(examples) == sorted(case["id"] for case in kept)

    url, token = defective_shop.url, authorization(defective_shop)
    results, again = tmp_path / "results.jsonl", tmp_path / "again.jsonl"
    ran = cli("execute", str(tmp_path / "regression.jsonl"), "--base-url", url, "-H", token, "--out", str(results))
    assert ran.returncode == 1 and "2 results, 2 failed" in ran.stdout, ran.stderr
    about = ("--cases", str(tmp_path / "regression.jsonl"), "--spec", f"{url}/openapi.json", "-H", token)
    smaller = cli("shrink", str(results), *about, "--out", str(again))
    assert smaller.returncode == 1 and "2 cases" in smaller.stdout, smaller.stderr
    assert {line for line in again.read_text().splitlines() if '"case"' in line} == {
        line for line in (tmp_path / "regression.jsonl").read_text().splitlines() if '"case"' in line
    }
    assert token.rpartition(" ")[2] not in "".join(path.read_text() for path in tmp_path.iterdir())
