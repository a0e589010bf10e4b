"""A git repository as a team has it, served to Argo CD in the test cluster, and what Argo CD makes of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from stack import HOST, ports
from tests.e2e.pods import Cluster
from tests.paths import ROOT
from tests.rendering import Manifest, airflow_chart, helm, run

ADDRESS = "https://git.example.com/team/ai-testops.git"
"""The repository's address as the files have it."""
CHARTS = (
    "https://airflow.apache.org",
    "https://kedacore.github.io/charts",
    "https://strimzi.io/charts",
    "https://cloudnative-pg.github.io/charts",
)
GUIDE = (ROOT / "argocd/README.md").read_text("utf-8")

Applications = dict[str, Manifest]


class Repository:
    """A work tree of argocd/, helm-values/ and targets/; what is committed here is what Argo CD reads."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        for name in ("argocd", "helm-values", "targets"):
            shutil.copytree(ROOT / name, folder / name)
        self._git("init", "-q", "-b", "main")

    def replace(self, pattern: str, old: str, new: str) -> None:
        """Replaces a text in all files of a pattern; in one of them it must be there."""
        texts = {path: path.read_text("utf-8") for path in self.folder.glob(pattern)}
        assert any(old in text for text in texts.values()), f"{pattern} has no {old}"
        for path, text in texts.items():
            path.write_text(text.replace(old, new), "utf-8")

    def write(self, path: str, content: Any) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content), "utf-8")

    def commit(self, message: str) -> str:
        """The new commit."""
        self._git("add", "-A")
        self._git("-c", "user.name=Team", "-c", "user.email=team@example.com", "commit", "-q", "-m", message)
        return self._git("rev-parse", "HEAD").strip()

    def tag(self, name: str) -> None:
        self._git("tag", name)

    def _git(self, *arguments: str) -> str:
        return run(["git", "-C", str(self.folder), *arguments])


@contextmanager
def git_server(base: Path) -> Iterator[int]:
    """The port on which `git daemon` serves the repositories in a folder."""
    port = ports.pick()
    command = [
        "git",
        "daemon",
        f"--listen={HOST}",
        f"--port={port}",
        "--export-all",
        f"--base-path={base}",
        "--reuseaddr",
    ]
    daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        daemon.terminate()
        daemon.wait(10)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def chart_server(folder: Path) -> Iterator[int]:
    """The port on which charts are served as Helm's repositories are."""
    run([*helm(), "repo", "index", str(folder)])
    with ThreadingHTTPServer((HOST, 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def add_airflow_chart(folder: Path) -> None:
    shutil.copy(airflow_chart(), folder)


def add_chart(folder: Path, name: str, version: str, manifests: list[Manifest]) -> None:
    """A chart that holds these manifests."""
    source = folder / name
    (source / "templates").mkdir(parents=True)
    (source / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": name, "version": version}), "utf-8")
    (source / "templates/all.yaml").write_text(yaml.safe_dump_all(manifests), "utf-8")
    run([*helm(), "package", str(source), "--destination", str(folder)])
    shutil.rmtree(source)


class ArgoCD:
    """Argo CD in the cluster, seen by `kubectl` alone."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def guided(self, folder: Path, marker: str, **words: str) -> None:
        """Runs the command of argocd/README.md that has `marker` in it, with some words replaced."""
        [command] = [line.strip() for line in re.findall(r"^ +(kubectl .*)$", GUIDE, re.M) if marker in line]
        for old, new in words.items():
            command = command.replace(old.replace("_", "-"), new)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            capture_output=True,
            text=True,
            env=self.cluster.environment,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"

    def applications(self) -> Applications:
        items = self.cluster.get("applications", "-n", "argocd")["items"]
        return {item["metadata"]["name"]: item for item in items}

    def application(self, name: str) -> Manifest:
        return self.cluster.get("application", name, "-n", "argocd")

    def refresh(self, *names: str) -> None:
        """Has Argo CD look at the repository now instead of within ten seconds."""
        for name in names:
            annotation = "argocd.argoproj.io/refresh=normal"
            self.cluster.kubectl("annotate", "application", name, "-n", "argocd", annotation, "--overwrite")

    def until(self, holds: Callable[[Applications], bool], what: str, timeout_s: float = 240) -> Applications:
        """The Applications at the first look at which it holds."""
        deadline = time.monotonic() + timeout_s
        while not holds(applications := self.applications()):
            assert time.monotonic() < deadline, f"{what}\n{described(applications)}"
            time.sleep(0.5)
        return applications

    def until_settled(self, *names: str, revision: str = "", timeout_s: float = 240) -> Applications:
        """Until they are in sync with the revision, healthy and run no sync."""
        return self.until(
            lambda applications: all(
                name in applications and is_settled(applications[name], revision) for name in names
            ),
            f"{', '.join(names)} did not settle",
            timeout_s,
        )


def revision_of(application: Manifest) -> str:
    """The revision of the repository that it names now."""
    spec = application["spec"]
    return str((spec.get("sources") or [spec["source"]])[-1]["targetRevision"])


def phase(application: Manifest) -> str:
    return str(application.get("status", {}).get("operationState", {}).get("phase", ""))


def message(application: Manifest) -> str:
    return str(application.get("status", {}).get("operationState", {}).get("message", ""))


def synced_revision(application: Manifest) -> str:
    """The commit of the repository with which it was compared last."""
    sync = application.get("status", {}).get("sync", {})
    return str((sync.get("revisions") or [sync.get("revision", "")])[-1])


def is_settled(application: Manifest, revision: str = "") -> bool:
    status = application.get("status", {})
    states = (status.get("sync", {}).get("status"), status.get("health", {}).get("status"), phase(application))
    return states == ("Synced", "Healthy", "Succeeded") and revision in ("", synced_revision(application))


def described(applications: Applications) -> str:
    """A line for each Application, for the message of a failed test."""
    lines = []
    for name, application in sorted(applications.items()):
        status = application.get("status", {})
        unsynced = [
            f"{resource['kind']}/{resource['name']} {resource.get('status')}"
            for resource in status.get("resources", ())
            if resource.get("status") != "Synced"
        ]
        health, sync = (status.get(key, {}).get("status") for key in ("health", "sync"))
        conditions = [condition["message"] for condition in status.get("conditions", ())]
        lines.append(
            f"{name} {revision_of(application)[:12]} {sync} {health} {phase(application)} {message(application)}"
        )
        lines.extend(f"    {line}"[:300] for line in [*conditions, *unsynced])
    return "\n".join(lines)
