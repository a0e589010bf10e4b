"""The target files of the end-to-end tests, beside the project's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stack.samples import Sample

BRIEF = """
spec: ${SOUND_URL}/openapi.json
base_url: ${SOUND_URL}
operations: {include: ["GET /categories"]}
policy: {allow_private: true}
schedule: "0 3 * * *"
"""

SLOW = """
title: Sample shop without defects, slowly
spec: ${SOUND_URL}/openapi.json
base_url: ${SOUND_URL}
auth:
  - name: staff
    fixedHeaders: [{name: Authorization, value: "Bearer ${SOUND_TOKEN}"}]
operations: {include: ["* /products*", "* /categories*"]}
policy: {allow_private: true, requests_per_second: 30, cases_per_batch: 60, breaker_wait_s: 3600}
"""

REVIEWED = """
spec: ${SOUND_URL}/openapi.json
base_url: ${SOUND_URL}
operations: {include: ["GET /categories", "GET /products"]}
policy: {allow_private: true, methods: safe}
generate: {review: new}
"""

IN_PROCESSES = {
    "brief": BRIEF,
    "astray": BRIEF.replace("/openapi.json", "/nowhere.json"),
    "slow": SLOW,
    "reviewed": REVIEWED,
    "free": REVIEWED.replace("review: new", "review: never"),
}

SLOW_IN_PODS = """
title: Sample shop without defects, slowly
spec: ${SOUND_URL}/openapi.json
base_url: ${SOUND_URL}
auth:
  - name: staff
    fixedHeaders: [{name: Authorization, value: "Bearer ${SOUND_TOKEN}"}]
operations: {include: ["* /products*", "* /categories*"]}
generate: {max_cases: 240}
policy: {allow_private: true, requests_per_second: 16, cases_per_batch: 80}
pod: {spec: {hostNetwork: true}}
"""

SHELVES = 120
SHELVES_CASES = 5000
BIG = f"""
title: Shelves
spec: ${{BIG_URL}}/openapi.json
base_url: ${{BIG_URL}}
generate: {{max_cases: {SHELVES_CASES}}}
policy: {{allow_private: true, requests_per_second: 200, cases_per_batch: 700}}
pod: {{spec: {{hostNetwork: true}}}}
"""

IN_PODS = {
    "slow": SLOW_IN_PODS,
    "keyless": SLOW_IN_PODS.replace("${SOUND_TOKEN}", "${NOT_IN_THE_SECRET}"),
    "shelves": BIG,
}


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """A target file for each name."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")


def variables(sound_shop: Sample) -> dict[str, str]:
    """What the files say of the sample shop without defects."""
    return {"SOUND_URL": sound_shop.url, "SOUND_TOKEN": sound_shop.variables()["TESTOPS_SHOP_ADMIN_TOKEN"]}
