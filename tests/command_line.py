"""The command line as a person calls it: a process of its own for every call, which pays for no imports."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
from pathlib import Path

from tests.paths import ROOT
from tests.warm_python import WarmPython

IMPORTS = """
import importlib, pkgutil
import stack.__main__, stack.run, testops_lib
for module in pkgutil.walk_packages(testops_lib.__path__, "testops_lib."):
    if not module.name.endswith(".__main__") and ".migrations" not in module.name:
        importlib.import_module(module.name)
"""

NO_KEYS = {"GEMINI_API_KEY": "", "OPENAI_API_KEY": ""}
"""Nor any of a checkout's `.env`."""


def cli(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """`testops arguments…`, with what is set of TESTOPS_… in `variables` alone."""
    return _python().run("from testops_lib.cli import main; main()", arguments, variables=variables, cwd=cwd)


def make_run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make run`'s command."""
    code = "from stack.__main__ import cli, main; main(cli)"
    return _python().run(code, ["run", *arguments], variables=variables)


@functools.cache
def _python() -> WarmPython:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TESTOPS_", "GEMINI_"))}
    python = WarmPython(IMPORTS, environment={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **NO_KEYS})
    atexit.register(python.__exit__, None, None, None)
    return python
