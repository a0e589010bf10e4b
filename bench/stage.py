"""One stage of a run in a process of its own: `python -m bench.stage publish|collect …`, a JSON line out."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from bench.sample import CONTRACT, cases, plan
from testops_lib.bus.client import Bus
from testops_lib.model import Batch


def publish(kafka: str, dsn: str, run: str, count: int, size: int, url: str) -> dict[str, Any]:
    """Publishes cases made on the way; gives the batches."""
    from testops_lib.store import Store

    ids = []

    def noted() -> Any:
        for case in cases(count):
            ids.append(case.id)
            yield case

    with Bus(kafka, timeout_s=120) as bus, Store(dsn) as store:
        store.open_run(run, "bench")
        positions = bus.results.position()
        at = bus.plans.publish(run, plan(url), [CONTRACT])
        begun = time.monotonic()
        batches: list[Batch] = bus.cases.publish(run, noted(), max_records=size, max_bytes=10**12)
        spent = time.monotonic() - begun
        store.mark_published(run, ids, positions=positions, plan=at, batches=batches)
    return {"plan": str(at), "batches": [str(batch) for batch in batches], "publish_s": spent}


def collect(kafka: str, dsn: str, run: str) -> dict[str, Any]:
    """Collects the run and counts what the store then holds."""
    import psycopg

    from testops_lib.run import collect as collecting
    from testops_lib.store import Store

    with Bus(kafka, timeout_s=120) as bus, Store(dsn) as store:
        begun = time.monotonic()
        counts = collecting.collect(bus, store, run, deadline_s=600)
        spent = time.monotonic() - begun
        verdicts = dict(store.progress(run).by_verdict)
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "select count(*), count(distinct case_id) from testops.results where run = %s", (run,)
        ).fetchone()
    assert found is not None
    return {
        "published": counts.published,
        "stored": counts.stored,
        "rows": found[0],
        "cases": found[1],
        "verdicts": verdicts,
        "collect_s": spent,
    }


if __name__ == "__main__":
    kind, address, store_at, name, *more = sys.argv[1:]
    if kind == "publish":
        print(json.dumps(publish(address, store_at, name, int(more[0]), int(more[1]), more[2])))
    else:
        print(json.dumps(collect(address, store_at, name)))
