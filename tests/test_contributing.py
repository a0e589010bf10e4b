"""The map in CONTRIBUTING.md is the one that the import contracts hold."""

from __future__ import annotations

import re
import tomllib

from tests.paths import ROOT


def test_the_map_of_the_library_names_the_layers_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract.get("containers") == ["testops_lib"]]
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    drawn = text.partition("`testops_lib` in reading order")[2].partition("Code without a home")[0]
    rows = [re.split(r" {3,}", line.strip())[0] for line in drawn.splitlines() if line.startswith("    ")]
    assert [set(row.split()) for row in rows] == [set(re.split(r"\s*\|\s*", layer)) for layer in layers]
