"""Another version of this code: a made-up one after it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from testops_lib.store import SCHEMA_VERSION
from tests.paths import ROOT


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
    """`python arguments…` with the code of that checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TESTOPS_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env={**kept, "PYTHONPATH": str(checkout), **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
