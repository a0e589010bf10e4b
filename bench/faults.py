"""Our sources against Schemathesis on the same budget of requests: operations reached, faults, wrong verdicts, CPU.

Both get the document, the base URL and the credentials, nothing else, and a server of their own in its first state. A
proxy counts their requests. A fault is a fault code of Web Fuzzing Commons and an operation, however many failures show
it; what is by the document no fault is a wrong verdict (`judged`).
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import yaml

from bench.apis import Api, install, installed, known, serving
from bench.figures import FOLDER, ROOT, Figures
from bench.fuzzers import Outcome, Reported, Run, install_peer, ours, peer_installed, schemathesis
from bench.proxy import Seen, counting
from testops_lib import spec as specs
from testops_lib.model import WFC_CODES
from testops_lib.report.wfc import OWN_CODES

BUDGET = 3000
STEPS = (100, 250, 500, 1000, 3000)
"""Where the curve is read."""

REVIEWED = Path(__file__).parent / "faults_reviewed.yaml"
REPORTS = FOLDER / "faults"

Fault = tuple[int, str]
"""Fault code, operation."""

_BY_THE_DOCUMENT = frozenset({100, 101, 102, 207, 210, OWN_CODES["no_answer"]})
"""Decided by document and answer alone; the others also by what nobody wrote down, so a person decides them once."""

_SLACK = 300
"""Requests beyond the budget that Schemathesis may make to end what it is at; they are not counted."""


@dataclass(frozen=True)
class Measured:
    """What one tool did to one API."""

    operations: int
    reached: dict[str, int]
    """Operation -> number of the first request that was answered 2xx."""
    faults: dict[Fault, int]
    """Confirmed -> number of the request that showed it first."""
    wrong: dict[Fault, int]
    open: dict[Fault, int]
    """Neither confirmed nor refuted by anybody yet."""
    requests: int
    cpu_s: float
    note: str = ""

    def at(self, requests: int) -> tuple[int, int]:
        """Operations reached and faults found within so many requests."""
        return _within(self.reached.values(), requests), _within(self.faults.values(), requests)


@dataclass
class Review:
    """What people decided about one API."""

    faults: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    neither: list[tuple[str, str]] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)


def measure(
    *,
    quick: bool,
    targets: Collection[str] = (),
    installing: bool = False,
    again: bool = False,
    requests: int = BUDGET,
) -> Figures:
    """One run of each tool on each API. Quick: 500 requests, samples only. `again`: what Schemathesis did the last time
    is taken as it was, and judged anew.
    """
    figures = Figures()
    budget = 500 if quick else requests
    apis = known()
    if unknown := [name for name in targets if name not in apis]:
        raise SystemExit(f"there is no {', '.join(unknown)}; there are {', '.join(apis)}")
    chosen = [api for api in apis.values() if (api.name in targets if targets else not (quick and api.install))]
    why = install_peer() if installing else ""
    tools: dict[str, Run] = {"ours": ours}
    if peer_installed():
        tools["schemathesis"] = schemathesis
    else:
        figures.note(f"Schemathesis is not installed: left out. {why or 'python -m bench faults --install gets it.'}")
    measured_by_tool: dict[str, dict[str, Measured]] = {}
    for api in chosen:
        why = install(api) if installing else ""
        if not installed(api):
            figures.note(f"{api.name} is not installed: left out. {why or 'python -m bench faults --install gets it.'}")
            continue
        measured_by_tool[api.name] = {
            name: (_kept(api, name, budget) if again and name != "ours" else None) or _one(api, name, tool, budget)
            for name, tool in tools.items()
        }
        _rows(figures, api, measured_by_tool[api.name], budget)
    _totals(figures, measured_by_tool, budget)
    figures.note(
        "faults: distinct pairs of Web Fuzzing Commons code and operation, confirmed by the document or a person "
        "(faults_reviewed.yaml); curves at " + ", ".join(f"{step:,}" for step in STEPS if step <= budget) + " requests."
    )
    return figures


def _one(api: Api, name: str, tool: Run, budget: int) -> Measured:
    with serving(api) as server, TemporaryDirectory(prefix="testops-bench-") as folder:
        spec = specs.load(str(server.document))
        keys = [operation.key for operation in spec.operations]
        limit = budget + _SLACK if name == "schemathesis" else budget
        with counting(server.port, limit) as counted:
            outcome = tool(server.document, counted.url + api.base, server.headers, Path(folder), counted)
            log = list(counted.log)
    measured = judged(api.name, keys, api.base, log[:budget], outcome, reviewed(api.name))
    _write(api, name, measured, outcome, log, keys, budget)
    return measured


def _kept(api: Api, name: str, budget: int) -> Measured | None:
    """The last run, if it had as many requests."""
    path = REPORTS / f"{api.name}-{name}.json"
    if not path.exists():
        return None
    kept = json.loads(path.read_text("utf-8"))
    if kept["budget"] < budget:
        return None
    log = [Seen(*seen) for seen in kept["log"]][:budget]
    outcome = Outcome([Reported(**record) for record in kept["reported"]], kept["cpu_s"], kept["note"])
    return judged(api.name, kept["operations"], api.base, log, outcome, reviewed(api.name))


# --------------------------------------------------------------------------- judging


def judged(api: str, operations: list[str], base: str, log: list[Seen], outcome: Outcome, review: Review) -> Measured:
    """What the log and the report come to.

    A 5xx is one fault (100), whatever else the document does not say of it; a refusal of valid data by a status that is
    not documented is one (101); a method that is not offered and refused with another status than 405 is a matter of
    style, neither fault nor wrong.
    """
    route = Router(operations, base)
    reached: dict[str, int] = {}
    for number, seen in enumerate(log, 1):
        if 200 <= seen.status < 300 and (key := route(seen.method, seen.target)):
            reached.setdefault(key, number)
    faults: dict[Fault, int] = {}
    wrong: dict[Fault, int] = {}
    unsettled: dict[Fault, int] = {}
    undocumented = {
        (report.number, report.operation) for report in outcome.reported if report.check == "status_code_conformance"
    }
    for report in outcome.reported:
        if report.check == "positive_data_acceptance" and (report.number, report.operation) in undocumented:
            continue
        if not 0 < report.number <= len(log) or _is_style(report) or (report.code == 101 and report.status >= 500):
            continue
        if _matches(review.neither, report):
            continue
        if _matches(review.wrong, report):
            into = wrong
        elif _matches(review.faults, report) or (api != "shop" and report.code in _BY_THE_DOCUMENT):
            into = faults
        else:
            into = wrong if api == "shop" else unsettled
        fault = (report.code, report.operation)
        into[fault] = min(report.number, into.get(fault, report.number))
    wrong = {fault: number for fault, number in wrong.items() if fault not in faults}
    unsettled = {fault: number for fault, number in unsettled.items() if fault not in faults and fault not in wrong}
    return Measured(len(operations), reached, faults, wrong, unsettled, len(log), outcome.cpu_s, outcome.note)


def _is_style(report: Reported) -> bool:
    return report.code in (210, 102) and not 200 <= report.status < 300


def _matches(entries: Iterable[tuple[str, str]], report: Reported) -> bool:
    return any(check in (report.check, "*") and fnmatch.fnmatchcase(report.operation, glob) for check, glob in entries)


def reviewed(api: str) -> Review:
    """The reviewed list of an API; the shop's defects are its list."""
    listed = (yaml.safe_load(REVIEWED.read_text("utf-8")) or {}).get(api, {})
    review = Review(unreachable=[entry["operation"] for entry in listed.get("unreachable", ())])
    for kind in ("faults", "wrong", "neither"):
        getattr(review, kind).extend((entry["check"], entry["operation"]) for entry in listed.get(kind, ()))
    if api == "shop":
        defects = yaml.safe_load((ROOT / "examples/shop/defects.yaml").read_text("utf-8"))
        review.faults += [(check, one["operation"]) for one in defects for check in _shown_as(one["check"])]
    return review


def _shown_as(check: str) -> list[str]:
    """The checks that a defect may rightly fail, the other tool's names included."""
    code = WFC_CODES.get(check)
    alike = [name for name, other in WFC_CODES.items() if code is not None and other == code]
    return [*(alike or [check]), *(["missing_required_header"] if code == 102 else [])]


class Router:
    """Request line -> operation of the document."""

    def __init__(self, operations: Iterable[str], base: str) -> None:
        self._base = base
        self._ways: dict[str, list[tuple[int, re.Pattern[str], str]]] = {}
        for key in operations:
            method, _, template = key.partition(" ")
            parts = re.split(r"\{[^{}]*\}", template)
            pattern = re.compile("[^/?#]+".join(map(re.escape, parts)) + "/?")
            self._ways.setdefault(method, []).append((len(parts), pattern, key))
        for ways in self._ways.values():
            ways.sort(key=lambda way: way[0])

    def __call__(self, method: str, target: str) -> str:
        """The operation with the fewest parameters that the request line fits, or ""."""
        path = urlsplit(target).path.removeprefix(self._base)
        return next((key for _, pattern, key in self._ways.get(method, ()) if pattern.fullmatch(path)), "")


# --------------------------------------------------------------------------- telling


def _rows(figures: Figures, api: Api, measured_by_tool: Mapping[str, Measured], budget: int) -> None:
    review = reviewed(api.name)
    for name, measured in measured_by_tool.items():
        outside = {key for key in _keys(api.name) if any(fnmatch.fnmatchcase(key, glob) for glob in review.unreachable)}
        reachable = measured.operations - len(outside)
        steps = [step for step in STEPS if step <= budget]
        curve = [measured.at(step) for step in steps]
        within = len(measured.reached.keys() - outside)
        judged = len(measured.faults) + len(measured.wrong)
        figures.add(
            f"{api.name}, {name}: operations with a 2xx",
            100 * within / reachable,
            "%",
            goal="≥ 90" if name == "ours" else "",
            more=f"{' / '.join(str(reached) for reached, _ in curve)} of {measured.operations}"
            + (f", {within} of {reachable} reachable" if outside else ""),
        )
        figures.add(f"{api.name}, {name}: faults", len(measured.faults), "", more=" / ".join(str(n) for _, n in curve))
        figures.add(
            f"{api.name}, {name}: wrong verdicts",
            100 * len(measured.wrong) / judged if judged else 0,
            "%",
            goal="< 5",
            more=f"{len(measured.wrong)} of {judged}"
            + (f"; {len(measured.open)} not reviewed" if measured.open else ""),
        )
        figures.add(
            f"{api.name}, {name}: CPU", measured.cpu_s, "s", more=f"{measured.requests:,} requests; {measured.note}"
        )


def _totals(figures: Figures, measured_by_tool: Mapping[str, Mapping[str, Measured]], budget: int) -> None:
    """Sums and means over all APIs."""
    both = {api: tools for api, tools in measured_by_tool.items() if len(tools) == 2}
    for step in sorted({500, budget}):
        for name in ("ours", "schemathesis"):
            seen = [tools[name] for tools in measured_by_tool.values() if name in tools]
            total = sum(measured.operations for measured in seen)
            if total:
                share = 100 * sum(measured.at(step)[0] for measured in seen) / total
                goal = "≥ 60" if name == "ours" and step == 500 else ""
                figures.add(f"all, {name}: operations with a 2xx at {step:,}", share, "%", goal=goal)
        ratios = [tools["ours"].at(step)[1] / max(1, tools["schemathesis"].at(step)[1]) for tools in both.values()]
        if ratios:
            figures.add(
                f"all: faults at {step:,}, ours ÷ Schemathesis, mean",
                sum(ratios) / len(ratios),
                "×",
                goal="≥ 1.3",
                more=", ".join(f"{api} {ratio:.2f}" for api, ratio in zip(both, ratios, strict=True)),
            )
    for name in ("ours", "schemathesis"):
        seen = [tools[name] for tools in measured_by_tool.values() if name in tools]
        judged = sum(len(measured.faults) + len(measured.wrong) for measured in seen)
        if judged:
            wrong = sum(len(measured.wrong) for measured in seen)
            figures.add(
                f"all, {name}: wrong verdicts", 100 * wrong / judged, "%", goal="< 5", more=f"{wrong} of {judged}"
            )


def _within(numbers: Iterable[int], limit: int) -> int:
    return sum(number <= limit for number in numbers)


def _keys(api: str) -> list[str]:
    found: list[str] = json.loads((REPORTS / f"{api}-ours.json").read_text("utf-8"))["operations"]
    return found


def _write(
    api: Api, name: str, measured: Measured, outcome: Outcome, log: list[Seen], keys: list[str], budget: int
) -> None:
    """Everything about one run, for reading: what was not reached and how it answered, what was reported and why."""
    route = Router(keys, api.base)
    answers: dict[str, dict[int, int]] = {key: {} for key in keys}
    for seen in log:
        if key := route(seen.method, seen.target):
            answers[key][seen.status] = answers[key].get(seen.status, 0) + 1
    about = {
        "budget": budget,
        "cpu_s": measured.cpu_s,
        "note": measured.note,
        "operations": keys,
        "not_reached": {key: answers[key] for key in keys if key not in measured.reached},
        "faults": [[*fault, number] for fault, number in sorted(measured.faults.items())],
        "wrong": [[*fault, number] for fault, number in sorted(measured.wrong.items())],
        "open": [[*fault, number] for fault, number in sorted(measured.open.items())],
        "answers": answers,
        "reported": [reported._asdict() for reported in outcome.reported],
        "log": [list(seen) for seen in log],
    }
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{api.name}-{name}.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), "utf-8")
