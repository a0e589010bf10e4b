"""Containers without an engine: each is a process in namespaces of its own, with the files that its Dockerfile makes.

The root is an overlay over this machine's, so a container's Python and its packages are those of the tests. What the
last stage of the Dockerfile does (files, users, variables, entry point) happens in it; then it is read-only where the
service says so. All containers of a host share one network: each server has the port that it has in its container, and
each service's name is 127.0.0.1. Needs Linux, root and util-linux.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stack.process import Child, Processes
from tests.paths import ROOT

STAGES = {"/opt/venv": sys.prefix, "/opt/testops": str(ROOT)}
"""Where an earlier stage put something -> where this machine has it."""


def need_namespaces() -> None:
    tools = all(shutil.which(tool) for tool in ("unshare", "nsenter", "setpriv", "ip"))
    if (
        os.getuid()
        or not tools
        or subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"]).returncode
    ):
        pytest.skip("needs root, util-linux, iproute2, and the right to make namespaces")


@dataclass(kw_only=True)
class Image:
    """What a Dockerfile's last stage says. `commands` make its files; they run in the container's root."""

    commands: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def read_dockerfile(path: Path, arguments: Mapping[str, str]) -> Image:
    """The image, as far as the host's own Python can stand in for the base and the earlier stages."""
    image = Image()
    text = re.sub(r"\\\n", " ", "\n".join(line for line in path.read_text("utf-8").splitlines() if line[:1] != "#"))
    for line in filter(None, text.splitlines()):
        instruction, _, rest = line.partition(" ")
        match instruction:
            case "FROM":
                image = Image(variables={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
            case "RUN":
                image.commands.append(rest)
            case "COPY":
                image.commands.append(_copy(rest))
            case "ENV":
                words = (word.partition("=") for word in shlex.split(rest))
                image.variables |= {
                    name: re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], value) for name, _, value in words
                }
            case "WORKDIR":
                image.folder = rest
            case "USER":
                image.user = rest
            case "ENTRYPOINT":
                image.entrypoint = json.loads(rest)
            case "CMD":
                image.command = json.loads(rest)
            case "ARG" | "LABEL" | "HEALTHCHECK":
                pass
            case _:
                raise AssertionError(f"{path}: what does {instruction} do?")
    return image


def _copy(words: str) -> str:
    first, *rest = shlex.split(words)
    if first.startswith("--from="):
        source, target = rest
        return f"ln -s {shlex.quote(STAGES[source])} {target}"
    return f"cp -R {shlex.quote(str(ROOT / first))} {rest[0]}"


class Host:
    """The network that containers share, and their volumes, below `folder`. Its first process ends with `stop`."""

    def __init__(self, folder: Path, project: Mapping[str, Any]) -> None:
        self.folder, self.project = folder, project
        self.processes = Processes(folder)
        self.processes.claim()
        (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(project['services'])}\n")
        self._network = self.processes.start(
            "network", ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]
        )
        while "up" not in self._network.log.read_text():
            self._network.require("making the network")
            time.sleep(0.05)
        self.children: list[Child] = [self._network]

    def stop(self) -> None:
        for child in reversed(self.children):
            child.stop(brutal=True)
        self.processes.release()

    def inside(self) -> list[str]:
        """The words before a command that is to see the containers' ports on 127.0.0.1."""
        return ["nsenter", f"--net=/proc/{self._network.pid}/ns/net"]

    def start(self, name: str, image: Image) -> Container:
        """A container of a service of the project, which is what `docker compose config` prints."""
        return Container(self, name, image)

    def run(self, name: str, command: Sequence[str]) -> Child:
        """A process in the network, outside of any container."""
        child = self.processes.start(name, [*self.inside(), *command], cwd=ROOT, death_signal=signal.SIGKILL)
        self.children.append(child)
        return child


class Container:
    """A started service. `child` is its process, as seen from outside; its log holds what the service prints."""

    def __init__(self, host: Host, name: str, image: Image) -> None:
        self.host, self.name, self.image = host, name, image
        self.service: Mapping[str, Any] = host.project["services"][name]
        self._box = host.folder / "boxes" / name
        self._box.mkdir(parents=True, exist_ok=True)
        command = [*image.entrypoint, *(self.service.get("command") or image.command)]
        script = "\n".join([*self._files(), *self._configs(), *self._volumes(), *self._closed(), self._run(command)])
        self.child = host.run(name, [*_UNSHARE, "bash", "-ec", script])

    def check(self) -> subprocess.CompletedProcess[str]:
        """Runs the health check of the service in the container."""
        kind, *words = self.service["healthcheck"]["test"]
        return self.execute(["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words)

    def execute(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command in the container, as `docker compose exec` does."""
        entered = ["nsenter", "--target", str(self._first()), "--net", "--mount", "--pid", "--uts", "sh", "-ec"]
        return subprocess.run([*entered, self._confined(command)], capture_output=True, text=True, timeout=120)

    def end(self, patience: float = 40) -> int:
        """Its exit code after SIGTERM, as `docker compose stop` sends it."""
        os.kill(self._first(), signal.SIGTERM)
        return self.child.wait(patience)

    def _first(self) -> int:
        """The first process of the container, by its number on this machine."""
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        while not (pids := children.read_text().split()):
            self.child.require("starting")
            time.sleep(0.02)
        return int(pids[0])

    def _files(self) -> list[str]:
        box, root = self._box, self._box / "root"
        program = Path(sys.executable).resolve()
        shown = {
            ROOT,
            *(path for path in (Path(sys.prefix), program.parents[1]) if not _below(path, ROOT, Path("/usr"))),
        }
        return [
            f"mount -t tmpfs tmpfs {box} && mkdir {box}/upper {box}/work {root}",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={box}/upper,workdir={box}/work {root}",
            f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && mount -t tmpfs tmpfs {root}/tmp",
            f"hostname {self.name} && cp {self.host.folder}/hosts {root}/etc/hosts",
            f"rm -rf {root}/opt && mkdir -m 755 {root}/opt {root}/opt/bin",
            *(line for path in sorted(shown) for line in _shown(path, root)),
            # As in the images of Python; this machine's may be anywhere.
            f"""printf '#!/bin/sh\\nexec {sys.executable} "$@"\\n' > {root}/usr/local/bin/python""",
            f"chmod 755 {root}/usr/local/bin/python",
            *(f"chroot {root} sh -ec {shlex.quote(command)}" for command in self.image.commands),
        ]

    def _configs(self) -> list[str]:
        lines = []
        for config in self.service.get("configs", []):
            content = shlex.quote(self.host.project["configs"][config["source"]]["content"])
            target = f"{self._box}/root{config['target']}"
            lines.append(f"mkdir -p $(dirname {target}) && printf %s {content} > {target}")
            lines.append(f"chmod {config.get('mode', '0444')} {target}")
        return lines

    def _volumes(self) -> list[str]:
        lines = []
        for path in self.service.get("tmpfs", []):
            if path != "/tmp":
                lines.append(f"mount -t tmpfs tmpfs {self._box}/root{path}")
        for volume in self.service.get("volumes", []):
            target = f"{self._box}/root{volume['target']}"
            if volume["type"] == "volume":
                source = self.host.folder / "volumes" / volume["source"]
                if not source.exists():
                    # A new volume takes the owner and the mode of what the image has there.
                    source.mkdir(parents=True)
                    lines.append(f"mkdir -p {target} && chown --reference={target} {source}")
                    lines.append(f"chmod --reference={target} {source}")
            else:
                source = Path(volume["source"]).resolve()
            lines.append(f"mkdir -p {target} && mount --bind {source} {target}")
            if volume.get("read_only"):
                lines.append(f"mount -o remount,ro,bind {target}")
        return lines

    def _closed(self) -> list[str]:
        return [f"mount -o remount,ro {self._box}/root"] if self.service.get("read_only") else []

    def _run(self, command: Sequence[str]) -> str:
        """The last line of the script: its process passes the signal to stop on, as Docker's own init does."""
        return (
            f"({self._confined(command)}) & child=$!\n"
            "trap 'kill -TERM $child' TERM\ncode=0; wait $child || code=$?\n"
            "while kill -0 $child 2>/dev/null; do code=0; wait $child || code=$?; done\nexit $code"
        )

    def _confined(self, command: Sequence[str]) -> str:
        user, _, group = (self.service.get("user") or self.image.user).partition(":")
        who = f"--reuid={user} --regid={group or f'$(id -g {user})'} --clear-groups"
        powers = "--no-new-privs --bounding-set=-all --inh-caps=-all"
        variables = {**self.image.variables, **(self.service.get("environment") or {})}
        pairs = shlex.join(f"{name}={value}" for name, value in variables.items() if value is not None)
        home = f'HOME="$(getent passwd {user} | cut -d: -f6)"'
        inner = f'cd {self.image.folder} && exec setpriv {who} {powers} env -i {pairs} {home} "$@"'
        return f"exec chroot {self._box}/root sh -ec {shlex.quote(inner)} sh {shlex.join(command)}"


_UNSHARE = ("unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child")


def _below(path: Path, *folders: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _shown(path: Path, root: Path) -> list[str]:
    """Shows a folder of this machine at the same place, to every user."""
    parents = " ".join(f"{root}{parent}" for parent in path.parents)
    return [
        f"mkdir -p {root}{path} && mount --bind {path} {root}{path} && mount -o remount,ro,bind {root}{path}",
        f"chmod a+x {parents}",
    ]
