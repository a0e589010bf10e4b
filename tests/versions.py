"""Other versions of this code: the one before, from the history, and a made-up one after it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from testops_lib.store import SCHEMA_VERSION
from tests.paths import ROOT

_UNRELEASED = "f7b5462b44736b769107a9cd1c30be96d74cc33a"
"""The version before, until there is a release."""


def before(folder: Path) -> Path:
    """The version before, unpacked into the folder: the last release (`v…`) before this commit.

    Skips the test where there is no history, as in a shallow clone or an archive.
    """
    tag = _git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^")
    revision = tag.stdout.decode().strip() if tag.returncode == 0 else _UNRELEASED
    archive = _git("archive", "--format=tar", revision)
    if archive.returncode != 0:
        pytest.skip(f"the history does not reach back to {revision}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)


def after(folder: Path, *, sql: str, oldest_code: str = SCHEMA_VERSION) -> Path:
    """This code in the folder, with one migration more."""
    version = f"{int(SCHEMA_VERSION) + 1:04}"
    shutil.copytree(ROOT / "testops_lib", folder / "testops_lib", ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "testops_lib" / "store" / "database.py"
    code = module.read_text()
    module.write_text(code.replace(f'SCHEMA_VERSION = "{SCHEMA_VERSION}"', f'SCHEMA_VERSION = "{version}"'))
    (folder / "testops_lib" / "store" / "migrations" / "versions" / f"v{version}_next.py").write_text(
        f'''"""A further step."""

from alembic import op

revision, down_revision, branch_labels, depends_on = "{version}", "{SCHEMA_VERSION}", None, None
oldest_code = "{oldest_code}"


def upgrade() -> None:
    op.execute("""{sql}""")
'''
    )
    return folder


def run(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python arguments…` with the code of that checkout, to its end."""
    process = start(checkout, *arguments, **variables)
    output, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def start(checkout: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """`python arguments…` with the code of that checkout; of TESTOPS_… it has what is in `variables` alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TESTOPS_")}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=checkout,
        env={**kept, "PYTHONPATH": str(checkout), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
