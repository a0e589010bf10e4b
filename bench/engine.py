"""CPU of a case: the engine against a bare loop of the same client and against wrk, in turns, on the same server."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys

from bench.figures import Figures, Started
from bench.sample import CONNECTIONS
from bench.target import serving

KINDS = {
    "bare": "bare loop (pycurl multi, uvloop), body decoded",
    "tuned": "the same loop, its sockets in an epoll as the engine's client has them",
    "plain": "engine, no checks, result record",
    "engine": "engine: status, header, schema, JSONPath, result record",
    "stream": "the same, cases from an async iterator, as a runner has them",
}


def measure(*, quick: bool) -> Figures:
    """Client on one core, server on the other; the best of the passes, ratios as the median of each pass's."""
    passes, count = (3, 3000) if quick else (7, 10_000)
    figures = Figures()
    cost: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "wrk")}
    with serving(core=1) as (url, server, _):
        for _ in range(passes):
            for kind in KINDS:
                child = Started([sys.executable, "-m", "bench.subject", kind, str(count), url], core=0)
                cost[kind].append(json.loads(child.end().out)["cpu_s"] / count * 1e6)
            if wrk := shutil.which("wrk"):
                cost["wrk"].append(_wrk(wrk, url))
    for kind, what in KINDS.items():
        best = min(cost[kind])
        figures.add(what, best, "CPU-µs/case", more=f"{1e6 / best:,.0f} requests/s of a core")
    for kind, goal in (("plain", ""), ("engine", "≤ 2"), ("stream", "≤ 2")):
        ratios = [mine / bare for mine, bare in zip(cost[kind], cost["bare"], strict=True)]
        spread = f"best to best {min(cost[kind]) / min(cost['bare']):.2f}; passes {min(ratios):.2f}–{max(ratios):.2f}"
        figures.add(f"{kind} ÷ bare", statistics.median(ratios), "×", goal=goal, more=spread)
    tuned = [mine / loop for mine, loop in zip(cost["engine"], cost["tuned"], strict=True)]
    figures.add("engine ÷ that loop", statistics.median(tuned), "×", more=f"passes {min(tuned):.2f}–{max(tuned):.2f}")
    if cost["wrk"]:
        figures.add(f"wrk, {CONNECTIONS} connections", min(cost["wrk"]), "CPU-µs/request", more="does not read bodies")
        figures.add("engine ÷ wrk", min(cost["engine"]) / min(cost["wrk"]), "×")
    else:
        figures.note("wrk is not installed: left out.")
    figures.note(f"{passes} passes of {count:,}, {CONNECTIONS} connections, server: {server}.")
    return figures


def _wrk(wrk: str, url: str) -> float:
    ended = Started([wrk, "-t1", f"-c{CONNECTIONS}", "-d2s", f"{url}/customers"], core=0).end()
    found = re.search(r"(\d+) requests in", ended.out)
    if not found:
        raise SystemExit(f"wrk said: {ended.out}")
    return ended.cpu_s / int(found[1]) * 1e6
