"""APIs under test, each a fresh server: the samples that come with the project, and others from package registries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
import yaml

from bench.figures import FOLDER
from stack import HOST, ports
from stack.process import Child, Processes
from stack.samples import READY, Sample
from testops_lib.model import Value

INSTALLED = FOLDER / "apis"
SAMPLES = ("shop", "httpbin")

_PATIENCE_S = 300
_FURTHER_PORTS = 5


class Api(Value, frozen=True, kw_only=True):
    """How to have one API: see apis.yaml. The samples have nothing to install or start here."""

    name: str
    install: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    prepare: tuple[tuple[str, ...], ...] = ()
    start: tuple[str, ...] = ()
    environ: dict[str, str] = msgspec.field(default_factory=dict)
    document: str = ""
    ready: str = ""
    base: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    first: tuple[tuple[str, str, str], ...] = ()
    unseen: bool = False

    @property
    def home(self) -> Path:
        return INSTALLED / self.name


class Serving(NamedTuple):
    """A server that answers, and its document as a file."""

    port: int
    document: Path
    headers: dict[str, str]


def known() -> dict[str, Api]:
    """All there are, by name, the samples first."""
    listed = yaml.safe_load((Path(__file__).parent / "apis.yaml").read_text("utf-8"))
    others = msgspec.convert(listed, tuple[Api, ...])
    return {api.name: api for api in (*(Api(name=name) for name in SAMPLES), *others)}


def installed(api: Api) -> bool:
    return not api.install or (api.home / "done").exists()


def install(api: Api) -> str:
    """Gets what the API needs from its registries; "" or why that failed."""
    if installed(api):
        return ""
    shutil.rmtree(api.home, ignore_errors=True)
    api.home.mkdir(parents=True)
    commands: list[list[str]] = []
    for registry, packages in api.install.items():
        match registry:
            case "pip":
                commands += environment(api.home, packages)
            case "npm":
                commands.append(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(api.home), *packages])
            case "maven":
                copy = ["mvn", "-q", "dependency:copy", f"-DoutputDirectory={api.home}"]
                commands += [[*copy, f"-Dartifact={package}"] for package in packages]
            case "go":
                commands += [["env", f"GOBIN={api.home / 'bin'}", "go", "install", package] for package in packages]
    return run_all(commands, api.home / "done")


def environment(home: Path, packages: tuple[str, ...]) -> list[list[str]]:
    """The commands that make a Python environment of its own."""
    uv = str(Path(sys.executable).parent / "uv")
    return [
        [uv, "venv", "--quiet", "--clear", str(home)],
        [uv, "pip", "install", "--quiet", "--python", f"{home}/bin/python", *packages],
    ]


def run_all(commands: list[list[str]], done: Path) -> str:
    """Runs installation commands and leaves the mark `done`; "" or what went wrong."""
    for command in commands:
        if shutil.which(command[0]) is None:
            return f"{command[0]} is not installed"
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            return f"{command[0]} took more than 600 s"
        if ended.returncode:
            return (ended.stderr or ended.stdout).strip()[-500:]
    done.touch()
    return ""


@contextmanager
def serving(api: Api) -> Iterator[Serving]:
    """The API on a free port, with an empty state; gone afterwards.

    Raises:
        SystemExit: it did not start; with the end of its log.
        StackError: a sample did not start.
    """
    with TemporaryDirectory(prefix="testops-bench-", ignore_cleanup_errors=True) as folder:
        here = Path(folder)
        if not api.start:
            yield from _sample(api, here)
            return
        port = ports.pick()
        data = here / "data"
        data.mkdir()
        names = {
            "bin": api.home / "bin",
            "python": api.home / "bin" / "python",
            "home": api.home,
            "data": data,
            "port": port,
            "ports": _in_a_row(_FURTHER_PORTS),
        }
        processes = Processes(here / "state")
        environ_of_api = {name: value.format(**names) for name, value in api.environ.items()}
        environ = {
            **os.environ,
            **environ_of_api,
            "PATH": f"{api.home / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        for command in api.prepare:
            subprocess.run(
                [part.format(**names) for part in command], check=True, capture_output=True, timeout=60, cwd=data
            )
        child = processes.start(api.name, [part.format(**names) for part in api.start], env=environ, cwd=data)
        try:
            served = api.document.startswith("/")
            text = _fetched(port, api.ready or api.document, child, api.headers)
            if api.ready and served:
                text = _fetched(port, api.document, child, api.headers)
            if not served:
                text = next(api.home.glob(api.document)).read_bytes()
            for method, path, body in api.first:
                _send(port, method, path, body)
            document = here / f"document{'.yaml' if api.document.endswith('.yaml') else '.json'}"
            document.write_bytes(text)
            yield Serving(port, document, api.headers)
        finally:
            child.stop(patience=5)
            processes.release()


def _in_a_row(count: int) -> list[int]:
    """So many free ports with consecutive numbers, as some servers want them."""
    while True:
        first = ports.pick()
        if all(map(ports.is_free, range(first, first + count))):
            return [*range(first, first + count)]


def _sample(api: Api, here: Path) -> Iterator[Serving]:
    sample = Sample(api.name, here / "state")
    try:
        url = sample.start()
        variables = sample.variables()
        with urllib.request.urlopen(url + READY[api.name], timeout=30) as answer:
            document = here / "document.json"
            document.write_bytes(answer.read())
        headers = {"Authorization": f"Bearer {variables['TESTOPS_SHOP_ADMIN_TOKEN']}"} if api.name == "shop" else {}
        yield Serving(int(url.rpartition(":")[2]), document, headers)
    finally:
        sample.stop()


def _send(port: int, method: str, path: str, body: str) -> None:
    request = urllib.request.Request(
        f"http://{HOST}:{port}{path}", method=method, data=body.encode(), headers={"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=30).close()


def _fetched(port: int, path: str, child: Child, headers: dict[str, str]) -> bytes:
    """What the path answers, as soon as it answers 200."""
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", headers=headers)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except (OSError, urllib.error.URLError):
            if child.returncode is not None or time.monotonic() > deadline:
                raise SystemExit(f"{child.failure('did not answer')}") from None
            time.sleep(0.2)
