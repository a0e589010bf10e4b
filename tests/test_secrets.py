"""No secret is in the repository: detect-secrets reads every file that git knows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.paths import ROOT

SKIPPED = ("tests/golden/", "tests/data/", "docs/img/", "requirements.txt")
"""Results of runs against the sample API, full of hashes; other people's documents; pictures; version numbers."""

NO_SECRETS = (
    r"^[a-z]+([-_][a-z]+)*$",  # the name of a secret, a header or a setting
    r"^(PASSWORD|password|…)$",  # where a reader puts his own
    r"^[{$]",  # a placeholder, filled in when it is used
)

GUESSES = ("KeywordDetector", "HexHighEntropyString", "Base64HighEntropyString")
"""Detectors that go by a line's words or by chance. Tests are full of invented secrets, so they read the rest alone."""

ALLOWED: dict[str, set[str]] = {
    "CHANGELOG.md": {"client credentials, password), logins"},
    "argocd/environment/templates/airflow.yaml": {"secretKey: uri"},
    "argocd/environment/templates/testops.yaml": {"key: uri"},
    "testops_lib/doubts.py": {"that only a person knows"},
    "testops_lib/generate/imports/calls.py": {"INVENTED_SECRET ="},
    "testops_lib/notify.py": {"the hex HMAC-SHA256"},
    "tests/testops_lib/run/test_conf.py": {"u:hunter2@h"},
    "tests/testops_lib/spec/test_choose.py": {"ann:hunter2@host"},
    "tests/testops_lib/test_redact.py": {"MIIE", '"begin": "-----BEGIN', ".c2lnbmF0dXJl"},
    "tests/testops_lib/test_target.py": {"ann:hunter2@h"},
}
"""File -> parts of lines that hold no secret although they look like it."""


NO_GUESSES = [word for name in GUESSES for word in ("--disable-plugin", name)]


def suspects(folder: Path, files: Iterable[str], *options: str) -> dict[str, set[str]]:
    """File -> lines in which a detector sees a secret."""
    excluded = [word for pattern in NO_SECRETS for word in ("--exclude-secrets", pattern)]
    command = [sys.executable, "-m", "detect_secrets", "scan", "--no-verify", *excluded, *options, *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines: dict[str, set[str]] = {}
    for name, hits in json.loads(done.stdout)["results"].items():
        text = (folder / name).read_text("utf-8").splitlines()
        lines[name] = {text[hit["line_number"] - 1].strip() for hit in hits}
    return lines


def of_tests(name: str) -> bool:
    return name.startswith("tests/")


@pytest.mark.long
def test_no_secret_is_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.split("\0") if name and not name.startswith(SKIPPED)]
    lines = suspects(ROOT, [name for name in files if not of_tests(name)])
    lines |= suspects(ROOT, filter(of_tests, files), *NO_GUESSES)
    left = {
        f"{name}: {line}"
        for name in lines
        for line in lines[name]
        if not any(part in line for part in ALLOWED.get(name, ()))
    }
    assert left == set()
    stale = {part for name in ALLOWED for part in ALLOWED[name] if part not in " ".join(lines.get(name, ()))}
    assert stale == set(), "allowed, and no longer there"


INVENTED = "q7XkV2mZp9RtB4wLs8NcYd3HfG6jTe1UaQ0vWxKi"

PLANTED = {
    "deploy.yaml": "password: {}",
    "settings.py": 'AWS_SECRET_ACCESS_KEY = "{}"',
    "targets.env": "PETS_TOKEN={}",
    "store.yaml": "dsn: postgresql://testops:{}@postgres:5432/testops",
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_secret_is_seen(tmp_path: Path, name: str) -> None:
    line = PLANTED[name].format(INVENTED)
    (tmp_path / name).write_text(f"first: line\n{line}\n", "utf-8")
    assert suspects(tmp_path, [name]) == {name: {line}}


def test_a_planted_key_is_seen_in_a_test(tmp_path: Path) -> None:
    line = "aws = 'AKIA" + INVENTED[:16].upper() + "'"
    (tmp_path / "test_x.py").write_text(f"{line}\n", "utf-8")
    assert suspects(tmp_path, ["test_x.py"], *NO_GUESSES) == {"test_x.py": {line}}
