"""Findings are shown again by their scripts and by `testops reproduce`, against a fresh instance."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stack.samples import Sample
from testops_lib.cli.lines import read
from testops_lib.http.answer import Answer
from testops_lib.model import NO_ANSWER, Case, Contract, Finding
from testops_lib.verdict.check import Judge
from testops_lib.verdict.fingerprint import fingerprint_of
from testops_lib.verdict.json_values import select
from tests.command_line import cli
from tests.testops_lib.cli.test_cli import DEFECTS, authorization, try_shop

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def found(defective_shop: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run wrote, with all findings of the shop."""
    out = tmp_path_factory.mktemp("found")
    assert try_shop(defective_shop, out).returncode == 1
    return out


@pytest.fixture
def fresh_shop(tmp_path: Path) -> Iterator[Sample]:
    """A shop with every defect that nobody has asked anything."""
    sample = Sample("shop", tmp_path / "fresh", defects="all")
    sample.start()
    yield sample
    sample.stop()


def known(folder: Path) -> tuple[list[Finding], dict[str, Case], dict[str, Contract]]:
    lines = list(read(folder / "findings.jsonl"))
    cases = {line.case.id: line.case for line in lines if line.case}
    contracts = {line.contract.operation: line.contract for line in lines if line.contract}
    return [line.finding for line in lines if line.finding], cases, contracts


def judged(case: Case, contracts: dict[str, Contract], said: bytes) -> set[str]:
    """Fingerprints of what is wrong with the answers that a script printed."""
    judge, captured, shown = Judge(contracts), {"unique": ""}, set()
    parts = re.split(rb"(?m)^== (?:\d+|cleanup)\. .*\n", said)[1:]
    for index, (step, part) in enumerate(zip(case.steps, parts, strict=False)):
        whole, mark, after = part.partition(b"\n== answered ")
        assert mark, part
        status, seconds = re.match(rb"(\d*) after ([\d.]+) s", after).groups()  # type: ignore[union-attr]
        if b"== curl ended with" in after:
            shown |= {f"{NO_ANSWER} {step.operation}"}
            break
        head, _, body = whole.partition(b"\r\n\r\n")
        pairs = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
        headers = tuple((name, value.strip()) for name, _, value in pairs)
        answer = Answer(status=int(status), headers=headers, body=body, elapsed_ms=float(seconds) * 1000)
        for capture in step.captures:
            if capture.source == "body":
                values: list[Any] = (
                    select(capture.path, msgspec.json.decode(body)) if answer.status in (200, 201) else []
                )
            elif capture.source == "status":
                values = [answer.status]
            else:
                values = [value for name, value in headers if name.lower() == capture.path.lower()]
            captured |= {capture.name: values[0]} if values else {}
        for failure in judge.judge(step, answer, captured, index=index):
            shown |= {fingerprint_of(failure), f"{failure.check} {failure.operation}"}
    return shown


def test_every_seeded_defect_comes_back_by_its_script_against_a_fresh_instance(
    found: Path, fresh_shop: Sample, tmp_path: Path
) -> None:
    findings, cases, contracts = known(found)
    assert sorted((each.operation, each.check) for each in findings) == sorted(
        (each["operation"], each["check"]) for each in DEFECTS
    )
    token = authorization(fresh_shop).rpartition(" ")[2]
    variables = {"PATH": os.environ["PATH"], "BASE_URL": fresh_shop.url, "TOKEN": token}
    missing = []
    for finding in findings:
        script = tmp_path / "again.sh"
        script.write_text(finding.example.recipe, "utf-8")
        assert "[redacted]" not in finding.example.recipe
        done = subprocess.run(["sh", str(script)], env=variables, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        shown = judged(cases[finding.example.case], contracts, done.stdout)
        if finding.fingerprint not in shown and f"{finding.check} {finding.operation}" not in shown:
            missing.append((finding.operation, finding.check, done.stdout[-600:]))
    assert not missing
    assert len(findings) == len(DEFECTS) >= 27


@pytest.mark.long
def test_every_seeded_defect_is_reproduced_by_the_command_against_a_fresh_instance(
    found: Path, fresh_shop: Sample
) -> None:
    findings, _, _ = known(found)
    where = ("--from", str(found), "--base-url", fresh_shop.url, "-H", authorization(fresh_shop))
    done = cli("reproduce", *(each.fingerprint for each in findings), *where)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count(": reproduced (1 of 1)") == len(DEFECTS) == len(findings), done.stdout
    assert all(each.executed == each.reproduced == 2 for each in findings)


def test_what_is_mended_is_not_reproduced(found: Path, sound_shop: Sample) -> None:
    where = ("--from", str(found), "-H", authorization(sound_shop))
    done = cli("reproduce", "1", "2", "--base-url", sound_shop.url, "--times", "2", *where)
    assert (done.returncode, done.stdout.count(": not reproduced (0 of 2)")) == (0, 2), done.stdout + done.stderr
    away = cli("reproduce", "1", "--base-url", "http://127.0.0.1:9", *where)
    assert away.returncode == 2 and "could not be tried" in away.stdout


def test_a_finding_is_named_by_its_number_or_the_beginning_of_its_fingerprint(found: Path) -> None:
    findings, _, _ = known(found)
    by_number = cli("reproduce", "3", "--from", str(found), "--script")
    assert by_number.returncode == 0 and by_number.stdout == findings[2].example.recipe
    assert cli("reproduce", findings[2].fingerprint[:9], "--from", str(found), "--script").stdout == by_number.stdout
    for name in ("0", "99", "zz", ""):
        assert cli("reproduce", name, "--from", str(found), "--script").returncode == 2


@pytest.mark.long
def test_results_of_a_file_of_cases_can_be_reproduced_too(found: Path, defective_shop: Sample, tmp_path: Path) -> None:
    results, secret = tmp_path / "results.jsonl", authorization(defective_shop)
    about = ("--base-url", defective_shop.url, "-H", secret)
    assert cli("execute", str(found / "findings.jsonl"), *about, "--out", str(results)).returncode == 1
    assert secret.rpartition(" ")[2] not in results.read_text("utf-8")
    done = cli("reproduce", "1", "--from", str(results), "-H", secret)
    assert done.returncode == 1 and ": reproduced (1 of 1)" in done.stdout, done.stdout + done.stderr
    report = json.loads(cli("report", str(results), "--format", "json").stdout)
    assert all(each["example"]["recipe"].startswith("#!/bin/sh") for each in report["findings"])
