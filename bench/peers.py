"""Other tools with the same work: CPU of whole processes, start included, on one core; the server is on the other.

What is not installed is left out; `make bench-peers` (or `python -m bench.tools NAME…`) installs into
`.testops/bench/tools`.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from msgspec import structs

from bench import app, tools
from bench.figures import Figures, Started
from bench.sample import CHECKS, CONNECTIONS, CONTRACT, SCHEMA, cases, plan
from bench.target import serving
from testops_lib.cli.lines import Line
from testops_lib.model import Check

_CORE = 0
_PATH = "/customers/7"

THREE_CHECKS: tuple[Check, ...] = CHECKS[:3]
"""Status, header and schema."""

K6 = """
import http from 'k6/http';
import { check } from 'k6';
import exec from 'k6/execution';
export const options = {
  scenarios: { all: { executor: 'shared-iterations', vus: %(vus)d, iterations: %(count)d, maxDuration: '10m' } },
  thresholds: { checks: ['rate==1'] },
};
export default function () {
  const answer = http.get(`%(url)s/customers?page=${exec.scenario.iterationInTest}`);
  check(answer, {
    status: (r) => r.status === 200,
    header: (r) => r.headers['Content-Type'] === 'application/json',
    email: (r) => r.json().data[0].email === 'customer0@example.com',
  });
}
"""

HURL = """GET %(url)s/customers?page=%(number)d
HTTP 200
[Asserts]
header "Content-Type" == "application/json"
jsonpath "$.data[0].email" == "customer0@example.com"

"""

NEWMAN = """
pm.test('status', () => pm.response.to.have.status(200));
pm.test('header', () => pm.expect(pm.response.headers.get('Content-Type')).to.equal('application/json'));
pm.test('schema', () => pm.response.to.have.jsonSchema(%(schema)s));
"""

PYTEST_FILE = """
import jsonschema
import requests

SCHEMA = %(schema)r

def test_customers():
    answer = requests.get("%(url)s?page=%(number)d", timeout=30)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    jsonschema.validate(answer.json(), SCHEMA)
"""

PYTEST_SESSION = """
import jsonschema
import pytest
import requests

VALIDATOR = jsonschema.Draft202012Validator(%(schema)r)
SESSION = requests.Session()

@pytest.mark.parametrize("page", range(1, %(count)d + 1))
def test_customers(page):
    answer = SESSION.get(f"%(url)s?page={page}", timeout=30)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    VALIDATOR.validate(answer.json())
"""


def measure(*, quick: bool) -> Figures:
    """First the fast ones on the server of the other benchmarks, in turns; then those that come with a document."""
    figures = Figures()
    with TemporaryDirectory(prefix="testops-bench-") as folder:
        _simple(figures, Path(folder), 1000 if quick else 10_000, 1 if quick else 3)
        _with_document(figures, Path(folder), quick)
    figures.note("Runner: `testops execute` from a file of cases to a file of results; no Kafka. All: start included.")
    return figures


def _simple(figures: Figures, folder: Path, count: int, passes: int) -> None:
    figures.note(
        f"{count:,} simple cases, best of {passes}; k6 ({CONNECTIONS} VUs) and hurl check status, header and JSONPath, "
        "the runner the schema as well."
    )
    with serving(core=1) as (url, server, _):
        commands = {"runner": _runner(folder, url, count)}
        if k6 := tools.find("k6"):
            script = folder / "cases.js"
            script.write_text(K6 % {"url": url, "count": count, "vus": CONNECTIONS})
            commands["k6"] = [k6, "run", "--quiet", "--no-usage-report", str(script)]
        if hurl := tools.find("hurl"):
            script = folder / "cases.hurl"
            script.write_text("".join(HURL % {"url": url, "number": number} for number in range(count)))
            commands["hurl"] = [hurl, "--test", "--jobs", "1", str(script)]
        costs: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(passes):
            for name, command in commands.items():
                costs[name].append(_cpu_s(command, folder) / count * 1000)
        figures.note(f"Their server: {server}.")
    for name, cost in costs.items():
        more = f"passes {min(cost):.3f}–{max(cost):.3f}"
        figures.add(f"{name}, {count:,} simple cases", min(cost), "CPU-ms/case", more=more)
    for name in ("k6", "hurl"):
        if name not in costs:
            _left_out(figures, name)
            continue
        ratios = [mine / theirs for mine, theirs in zip(costs["runner"], costs[name], strict=True)]
        figures.add(f"runner ÷ {name}", statistics.median(ratios), "×", goal="≤ 0.7", more="median of the passes")


def _with_document(figures: Figures, folder: Path, quick: bool) -> None:
    figures.note(
        f"1 request, 3 checks (status, header, schema), one uvicorn worker with {app.OPERATIONS} operations. "
        "Schemathesis makes its cases itself: generation included."
    )
    count = 1000 if quick else 10_000
    with app.serving(core=1) as url:
        ours = _per_request(url, folder, [_runner(folder, url, count, path=_PATH)], count) * 1000
        figures.add(f"runner, {count:,} cases of 3 checks", ours, "CPU-ms/case")
        for name, goal, least, start in (
            ("schemathesis", "≥ 40", 0, _schemathesis),
            ("newman", "≥ 150", 1000, _newman),
            ("pytest", "≥ 5,000", 1, _pytest_files),
            ("pytest", "", 1000, _pytest_session),
        ):
            program = tools.find(name)
            if not program:
                _left_out(figures, name)
                continue
            what, commands = start(program, folder, url)
            before = app.requests(url)
            theirs = _per_request(url, folder, commands, least * len(commands)) * 1000
            cases_made = app.requests(url) - before
            figures.add(f"{what}, {cases_made:,} cases", theirs, "CPU-ms/case")
            figures.add(f"{what} ÷ runner", theirs / ours, "×", goal=goal)


def _left_out(figures: Figures, name: str) -> None:
    figures.note(f"{name} is not installed: left out. python -m bench.tools {name} (needs {tools.NEEDS[name]}).")


def _cpu_s(command: Sequence[str], folder: Path) -> float:
    return Started(command, core=_CORE, folder=folder).end().cpu_s


def _per_request(url: str, folder: Path, commands: Sequence[Sequence[str]], least: int) -> float:
    """CPU seconds for each request that the server has seen.

    Raises:
        SystemExit: it saw fewer than `least`.
    """
    before = app.requests(url)
    used = sum(_cpu_s(command, folder) for command in commands)
    seen = app.requests(url) - before
    if seen < max(1, least):
        raise SystemExit(f"{seen} of {least} requests arrived: {' '.join(commands[0])}")
    return used / seen


def _runner(folder: Path, url: str, count: int, *, path: str = "") -> list[str]:
    """Its command line; the file of cases is written."""
    made, contract = cases(count), CONTRACT
    if path:
        made = cases(count, checks=THREE_CHECKS, path=path)
        contract = structs.replace(CONTRACT, operation=f"GET {path}")
    file = folder / f"cases{path.replace('/', '-')}.jsonl"
    lines = [Line(plan=plan(url)), Line(contract=contract), *(Line(case=case) for case in made)]
    file.write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    options = ["--base-url", url, "--concurrency", str(CONNECTIONS), "--out", str(folder / "results.jsonl")]
    return [sys.executable, "-m", "testops_lib.cli", "execute", str(file), *options]


def _schemathesis(program: str, folder: Path, url: str) -> tuple[str, list[list[str]]]:
    checks = "status_code_conformance,content_type_conformance,response_schema_conformance"
    options = ["--phases", "coverage", "--workers", "1", "--checks", checks, "--no-color"]
    return "Schemathesis, coverage phase", [[program, "run", f"{url}/openapi.json", *options]]


def _newman(program: str, folder: Path, url: str) -> tuple[str, list[list[str]]]:
    script = (NEWMAN % {"schema": json.dumps(SCHEMA)}).splitlines()
    item: dict[str, Any] = {
        "name": "customers",
        "request": {"method": "GET", "url": f"{url}{_PATH}?page=1"},
        "event": [{"listen": "test", "script": {"type": "text/javascript", "exec": script}}],
    }
    schema = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
    file = folder / "collection.json"
    file.write_text(json.dumps({"info": {"name": "bench", "schema": schema}, "item": [item]}))
    return "newman", [[program, "run", str(file), "--iteration-count", "1000", "--silent"]]


def _pytest_files(program: str, folder: Path, url: str) -> tuple[str, list[list[str]]]:
    files = [folder / f"test_file_{number}.py" for number in range(8)]
    for number, file in enumerate(files):
        file.write_text(PYTEST_FILE % {"schema": SCHEMA, "url": f"{url}{_PATH}", "number": number + 1})
    return "one pytest process a file", [_pytest(program, file) for file in files]


def _pytest_session(program: str, folder: Path, url: str) -> tuple[str, list[list[str]]]:
    file = folder / "test_session.py"
    file.write_text(PYTEST_SESSION % {"schema": SCHEMA, "url": f"{url}{_PATH}", "count": 1000})
    return "pytest, one session, one validator", [_pytest(program, file)]


def _pytest(program: str, file: Path) -> list[str]:
    return [program, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
