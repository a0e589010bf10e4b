"""What is locked installs on every Python that README names; samples have environments of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from stack.environment import environment, package_index
from stack.samples import Sample
from testops_lib.errors import StackError
from tests.paths import ROOT

UV = Path(sys.executable).with_name("uv")


@pytest.mark.long
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize(
    ("lock", "built"),
    [
        ("requirements.txt", ()),
        ("runner/requirements.txt", ()),
        ("examples/httpbin/requirements.txt", ("flasgger",)),  # pure Python, published as source alone
    ],
    ids=["project", "runner", "httpbin"],
)
def test_what_is_locked_installs_from_wheels(lock: str, built: tuple[str, ...], version: str, tmp_path: Path) -> None:
    sources = [argument for name in built for argument in ("--no-binary", name)]
    ended = subprocess.run(
        [
            *(str(UV), "pip", "compile", "--quiet", "--python-version", version, "--python-platform", "linux"),
            *("--only-binary", ":all:", *sources, str(ROOT / lock), "-o", str(tmp_path / "resolved.txt")),
        ],
        capture_output=True,
        text=True,
        env=package_index(),
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "resolved.txt").read_text().count("==") > 5


def test_the_sample_httpbin_starts_from_an_environment_of_its_own(tmp_path: Path) -> None:
    sample = Sample("httpbin", tmp_path)
    try:
        with urllib.request.urlopen(f"{sample.start()}/spec.json", timeout=10) as answer:
            assert len(json.load(answer)["paths"]) > 40
    finally:
        sample.stop()


def test_an_environment_that_cannot_be_installed_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("there-is-no-such-package-of-that-name==1.0\n")
    with pytest.raises(StackError, match="there-is-no-such-package"):
        environment(tmp_path / "home", requirements)
    assert not (tmp_path / "home").exists()
