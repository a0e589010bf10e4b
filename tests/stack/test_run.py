"""What `make run` asks of the DAG, and what it says when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stack import run as runs
from stack.local import Local
from stack.process import Processes, started_at
from testops_lib.errors import StackError, TargetError
from testops_lib.model import Identity
from testops_lib.settings import read, read_dotenv


@pytest.fixture
def targets(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TESTOPS_TARGETS_DIR", str(tmp_path))
    (tmp_path / "pets.yaml").write_text("spec: https://example.org/openapi.json\n")
    (tmp_path / "shop.yaml").write_text("spec: ${TESTOPS_SHOP_URL}/openapi.json\nbase_url: ${TESTOPS_SHOP_URL}\n")
    return tmp_path


def test_a_target_starts_the_samples_that_its_file_names(targets):
    assert runs._order("shop", "", "", {}) == ({"target": "shop"}, {}, ["shop"])
    (targets / "scheduler.yaml").write_text("spec: ${TESTOPS_AIRFLOW_URL}/openapi.json\n")
    assert runs._order("scheduler", "", "", {})[2] == ["airflow"]
    assert runs._order("pets", "", "https://staging.example.org", {"max_cases": 5}) == (
        {"target": "pets", "base_url": "https://staging.example.org", "max_cases": 5},
        {},
        [],
    )


def test_credentials_go_with_a_document_and_the_base_url_that_takes_them():
    users = (Identity(name="default", headers=(("Authorization", "Bearer s3cret"),)),)
    variables = runs._credentials({"spec": "a.yaml", "base_url": "http://127.0.0.1:8000"}, users)
    assert variables.pop("TESTOPS_ADHOC_SECRET_1") == "Bearer s3cret"
    assert "s3cret" not in str(variables) and "127.0.0.1:8000" in variables["TESTOPS_ADHOC_AUTH"]
    with pytest.raises(StackError, match="BASE_URL: is missing"):
        runs._credentials({"spec": "a.yaml"}, users)
    with pytest.raises(StackError, match="target shop: has its own"):
        runs._credentials({"target": "shop"}, users)
    assert runs._credentials({"target": "shop"}, ()) == {}


def test_an_unknown_target_is_refused_with_the_nearest_name(targets):
    with pytest.raises(TargetError, match="did you mean shop"):
        runs._order("shopp", "", "", {})


def test_a_file_may_be_read_with_its_neighbours(tmp_path):
    spec = tmp_path / "api.yaml"
    spec.touch()
    order, variables, samples = runs._order("", str(spec), "https://192.0.2.1.example", {})
    assert order == {"spec": str(spec), "base_url": "https://192.0.2.1.example"}
    assert variables == {"TESTOPS_SPECS_DIR": str(tmp_path)}
    assert samples == []
    with pytest.raises(StackError, match="no such file"):
        runs._order("", str(tmp_path / "missing.yaml"), "", {})


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("http://127.0.0.1:9000/api", True),
        ("http://localhost:9000", True),
        ("http://10.1.2.3", True),
        ("http://[::1]:80/", True),
        ("https://93.184.216.34/", False),
        ("openapi.yaml", False),
        ("", False),
    ],
)
def test_private_addresses_are_allowed_only_when_the_person_named_one(address, private):
    order, _, _ = runs._order("", "https://93.184.216.34/openapi.json", address, {})
    assert order.get("allow_private", False) is private


def test_dotenv_fills_what_the_environment_lacks(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(
        "# a comment\nTESTOPS_A=from file\nexport TESTOPS_B='quoted'\nTESTOPS_C=\nTESTOPS_D=a=b\nnonsense\n"
    )
    for name in "ABCD":
        monkeypatch.delenv(f"TESTOPS_{name}", raising=False)
    monkeypatch.setenv("TESTOPS_A", "from environment")
    read_dotenv(tmp_path / ".env")
    values = {name: os.environ.get(f"TESTOPS_{name}") for name in "ABCD"}
    for name in "BD":
        monkeypatch.delenv(f"TESTOPS_{name}", raising=False)
    assert values == {"A": "from environment", "B": "quoted", "C": None, "D": "a=b"}
    read_dotenv(tmp_path / "missing")


def test_what_is_added_to_dotenv_later_reaches_tasks_and_nothing_else_changes(tmp_path, monkeypatch):
    file = tmp_path / ".env"
    file.write_text("LATER_A=first\nLATER_DSN=theirs\n")
    monkeypatch.setenv("LATER_GIVEN", "by the shell")
    for name in ("LATER_A", "LATER_B", "LATER_DSN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    names = read_dotenv(file)
    local = Local(
        tmp_path,
        samples=(),
        variables={"TESTOPS_DOTENV": str(file), "TESTOPS_DOTENV_NAMES": ",".join(names), "LATER_DSN": "ours"},
    )
    local.kafka.prepare()
    (local.postgres.state / "password").parent.mkdir()
    (local.postgres.state / "password").write_text("p")
    for name, value in local.variables().items():
        monkeypatch.setenv(name, value)
    file.write_text("LATER_A=second\nLATER_B=new\nLATER_GIVEN=by the file\nLATER_DSN=theirs\n")
    read()
    held = {name: os.environ[name] for name in ("LATER_A", "LATER_B", "LATER_GIVEN", "LATER_DSN")}
    assert held == {"LATER_A": "second", "LATER_B": "new", "LATER_GIVEN": "by the shell", "LATER_DSN": "ours"}
    file.write_text("LATER_B=newer\n")
    read()
    assert (os.environ["LATER_A"], os.environ["LATER_B"]) == ("second", "newer")
    local.kafka.stop()


def test_what_cannot_run_ends_with_2_and_says_why(tmp_path, targets, capsys):
    assert runs.run(target="shopp", once=True, state=tmp_path / "state") == 2
    assert "did you mean shop" in capsys.readouterr().err


def test_clean_ends_what_a_killed_owner_left(tmp_path):
    processes = Processes(tmp_path / "postgres")
    child = processes.start("sleeper", ["/bin/sleep", "600"], death_signal=0)
    processes.release()
    done = subprocess.run(
        [sys.executable, "-m", "stack.clean", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=runs.PROJECT,
    )
    assert (done.returncode, done.stdout) == (0, "ended sleeper\n")
    child.wait(5)
    assert not started_at(child.pid)


def test_clean_stops_a_living_run(tmp_path):
    script = (
        "import signal, sys, time; from pathlib import Path\n"
        "from stack.process import Processes\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "Processes(Path(sys.argv[1])).claim(); print('claimed', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "claimed\n"
        begun = time.monotonic()
        runs.clean(tmp_path)
        assert owner.wait(5) == 3
        assert time.monotonic() - begun < 10


def test_clean_needs_no_installed_package():
    """It is run by whatever Python is there, also when .venv is gone."""
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(runs.PROJECT)!r})\nimport stack.clean",
        ],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.returncode == 0
