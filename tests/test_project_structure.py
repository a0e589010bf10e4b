"""PROJECT_STRUCTURE.md names what is there, all of it, and the layers that the import contracts hold."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from tests.paths import ROOT

PAGE = (ROOT / "PROJECT_STRUCTURE.md").read_text("utf-8")
TRACKED = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
FOLDERS = sorted({path.split("/")[0] for path in TRACKED if "/" in path and not path.startswith(".")})


def test_the_map_of_the_library_names_the_layers_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract.get("containers") == ["testops_lib"]]
    drawn = PAGE.partition("In reading order")[2].partition("A run goes through it")[0]
    rows = [re.split(r" {3,}", line.strip())[0] for line in drawn.splitlines() if line.startswith("    ")]
    assert [set(row.split()) for row in rows] == [set(re.split(r"\s*\|\s*", layer)) for layer in layers]


def test_every_path_that_the_page_names_exists() -> None:
    paths = {name for name in re.findall(r"`([\w./-]+)`", PAGE) if "/" in name}
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_page_names_every_folder_of_the_tree(folder: str) -> None:
    assert f"`{folder}/`" in PAGE
