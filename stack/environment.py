"""Python environments of their own for servers whose packages nobody else needs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from testops_lib.errors import StackError

_PATIENCE_S = 600
_REMEDY = "is the package index reachable?"


def environment(home: Path, requirements: Path) -> Path:
    """The Python of an environment in `home` with the locked `requirements`, which is created if it is missing.

    Raises:
        StackError: uv is missing, or a package could not be installed; with the end of uv's output.
    """
    python, mark = home / "bin" / "python", home / "installed"
    stamp = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.is_file() or mark.read_text() != stamp:
            _make(home, python, requirements)
            mark.write_text(stamp)
    return python


def _make(home: Path, python: Path, requirements: Path) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise StackError("there is no uv", where=str(home), next_step="run `make setup`, which installs it")
    shutil.rmtree(home, ignore_errors=True)
    _run([uv, "venv", "--quiet", "--python", sys.executable, str(home)], home)
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(requirements)]
    _run(install, home)


def _run(command: list[str], home: Path) -> None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, env=package_index())
    except subprocess.TimeoutExpired as error:
        raise StackError(f"took more than {_PATIENCE_S} s", where=str(home), next_step=_REMEDY) from error
    if ended.returncode:
        shutil.rmtree(home, ignore_errors=True)
        output = (ended.stderr or ended.stdout).strip()[-1_000:]
        raise StackError(f"packages could not be installed: {output}", where=str(home), next_step=_REMEDY)


def package_index() -> dict[str, str]:
    """The environment of this process, with the package index from pip's configuration, which uv does not read."""
    if os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL"):
        return dict(os.environ)
    index = os.environ.get("PIP_INDEX_URL", "")
    if not index:
        configured = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
        )
        index = configured.stdout.strip() if configured.returncode == 0 else ""
    return {**os.environ, **({"UV_DEFAULT_INDEX": index} if index else {})}
