"""`python -m bench [name…]`: all benchmarks, or those named."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from bench.figures import FOLDER

NAMES = {
    "engine": "CPU of a case in the engine against a bare loop of the same HTTP client, and against wrk",
    "schema": "JSON Schema validation as the judge does it, against the Python package jsonschema",
    "start": "what a runner costs before its first request",
    "bus": "publish and collect rates (Apache Kafka, PostgreSQL)",
    "memory": "peak memory of a runner with batches of 100 and of 50,000 cases",
    "run": "runs of 1,000, 10,000 and 100,000 cases over 4 runners: time, CPU, memory, lost and doubled",
    "peers": "whole processes against k6, hurl, Schemathesis, newman and pytest, those that are installed",
    "dags": "parsing each DAG file against a trivial one",
    "chain": "the shipped Airflow settings against Airflow's defaults: a chain of empty tasks",
    "pipeline": "a run of testops_run with 8 batches of 1 case against an empty DAG of the same tasks, plus the work",
    "pods": "4 batches of 1.5 s of work in pods (needs a Kubernetes cluster)",
    "faults": "our sources against Schemathesis on the same budget of requests (--install gets it and the APIs)",
}


def main() -> int:
    """Runs what is named, in the order of `NAMES`."""
    names_and_meanings = "\n".join(f"  {name:8} {what}" for name, what in NAMES.items())
    parser = argparse.ArgumentParser(
        "python -m bench", epilog=names_and_meanings, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="all when none is given")
    parser.add_argument("--quick", action="store_true", help="fewer passes and smaller runs")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where NAME.json goes (default .testops/bench)")
    parser.add_argument("--install", action="store_true", help="faults: first get what it needs into .testops/bench")
    parser.add_argument("--again", action="store_true", help="faults: take Schemathesis' last run as it was")
    parser.add_argument("--requests", type=int, default=3000, help="faults: the budget of each tool (default 3000)")
    parser.add_argument("--target", action="append", default=[], help="faults: only this API; repeatable")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in NAMES]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(NAMES)}")
    for name in NAMES:
        if not args.names or name in args.names:
            more = (
                {"targets": args.target, "installing": args.install, "again": args.again, "requests": args.requests}
                if name == "faults"
                else {}
            )
            figures = importlib.import_module(f"bench.{name}").measure(quick=args.quick, **more)
            figures.publish(name, NAMES[name], args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
