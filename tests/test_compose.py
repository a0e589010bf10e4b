"""`docker-compose.yaml`: valid by its specification, closed to the outside, in step with the code that it starts."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from testops_lib import settings as configuration
from tests.paths import DATA, ROOT

TEXT = (ROOT / "docker-compose.yaml").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
UNCHECKED = {"setup", "collector", "log-cleaner"}
"""The setup ends; the others have no port, end when they cannot go on, and are started again."""
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:?[-?])?")


def make_env(folder: Path) -> str:
    """What `make env` runs, for files in `folder`."""
    command = [sys.executable, "-S", "-m", "stack.env_files", str(folder)]
    return subprocess.check_output(command, text=True, cwd=ROOT, env={"PATH": os.environ["PATH"]})


def variables(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def test_the_file_is_valid_by_the_schema_of_the_specification() -> None:
    validator = jsonschema_rs.validator_for(json.loads((DATA / "compose-spec.json").read_text("utf-8")))
    assert [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(COMPOSE)] == []
    assert list(validator.iter_errors({**COMPOSE, "services": {"shop": {"imagee": "x"}}})), "the schema refuses nothing"


def test_make_env_fills_every_variable_without_a_default_and_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GEMINI_API_KEY=mine\nAIRFLOW_ADMIN_PASSWORD=chosen")
    make_env(tmp_path)
    environment = variables(tmp_path / ".env")
    needed = {name for name, default in VARIABLE.findall(TEXT) if "-" not in default}
    assert needed and needed <= environment.keys()
    assert (environment["GEMINI_API_KEY"], environment["AIRFLOW_ADMIN_PASSWORD"]) == ("mine", "chosen")
    assert stat.S_IMODE((tmp_path / "targets.env").stat().st_mode) == 0o600
    before = (tmp_path / ".env").read_bytes(), (tmp_path / "targets.env").read_bytes()
    assert make_env(tmp_path) == "nothing was missing\n"
    assert before == ((tmp_path / ".env").read_bytes(), (tmp_path / "targets.env").read_bytes())


def test_make_env_makes_other_secrets_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_env(tmp_path / name)
    first, second = (variables(tmp_path / name / ".env") for name in ("one", "two"))
    assert {name for name in first if first[name] == second[name]} == {"COMPOSE_PROFILES"}


@pytest.mark.parametrize("name", [".env", "targets.env"])
def test_git_does_not_take_the_files_with_secrets(name: str) -> None:
    assert subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT).returncode == 0


def test_the_shop_and_its_target_have_the_same_tokens(tmp_path: Path) -> None:
    make_env(tmp_path)
    tokens = variables(tmp_path / "targets.env")
    assert tokens["SHOP_TOKEN"] == tokens["TESTOPS_SHOP_TOKEN"] != tokens["SHOP_ADMIN_TOKEN"]
    assert tokens["SHOP_ADMIN_TOKEN"] == tokens["TESTOPS_SHOP_ADMIN_TOKEN"]
    target = (ROOT / "targets/shop.yaml").read_text("utf-8")
    assert set(re.findall(r"\$\{(\w+)\}", target)) <= tokens.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined_limited_and_pinned(name: str) -> None:
    service = SERVICES[name]
    assert service["profiles"] and service["mem_limit"] and service["logging"]["options"]["max-size"]
    assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    repository, _, tag = service["image"].partition(":")
    assert tag and tag != "latest", "an image without a version changes by itself"
    assert repository


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_but_the_user_interface_is_published_and_that_on_loopback(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    assert ports == (["${UI_ADDRESS:-127.0.0.1}:${UI_PORT:-8080}:8080"] if name == "api-server" else [])


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - UNCHECKED))
def test_a_service_has_a_minute_to_start_before_its_health_check_gives_up(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    retries = check.get("retries", 3)  # the specification's default
    assert seconds(check.get("start_period", "0s")) + retries * seconds(check["interval"]) >= 60


def test_no_signal_to_stop_crosses_users() -> None:
    """Without CAP_KILL, `init` of the image's user could not pass the signal on to a server of another user."""
    assert {name for name, service in SERVICES.items() if service.get("cap_add")} == set()
    assert SERVICES["postgres"]["user"] == "postgres", "the image starts as root"


def test_every_variable_of_ours_that_is_set_is_a_setting() -> None:
    ours = {
        variable
        for service in SERVICES.values()
        for variable in service.get("environment", {})
        if variable.startswith("TESTOPS_")
    }
    assert ours - {"TESTOPS_DB_PASSWORD"} <= configuration.VARIABLES.keys()


NOT_HERE = {
    "TESTOPS_KAFKA_OPTIONS": "the broker is the file's own",
    "TESTOPS_KAFKA_REPLICATION": "there is one broker",
    "TESTOPS_STORE_CONN_ID": "the store is the file's own",
    "TESTOPS_KAFKA_CONN_ID": "the broker is the file's own",
    "TESTOPS_SPECS_DIR": "documents lie beside the targets",
    "TESTOPS_ADHOC_AUTH": "written by make run",
    "TESTOPS_RUNNER_IMAGE": "of pods",
    "TESTOPS_POD_NAMESPACE": "of pods",
    "TESTOPS_POD_TEMPLATE": "of pods",
    "TESTOPS_POD_KAFKA_BOOTSTRAP": "of pods",
    "KUBECONFIG": "of pods",
    "TESTOPS_PRICES_FILE": "a file that would have to be mounted",
    "TESTOPS_REPORTS_DIR": "the store has the reports",
}
"""Settings that the services of Airflow are not given -> why."""


def test_airflow_is_given_every_setting_that_means_something_here() -> None:
    passed = SERVICES["scheduler"]["environment"].keys() & configuration.VARIABLES.keys()
    assert passed == configuration.VARIABLES.keys() - NOT_HERE.keys()
    assert SERVICES["collector"]["environment"].keys() == passed
    for name, value in SERVICES["runner"]["environment"].items():
        assert value == SERVICES["scheduler"]["environment"][name], f"{name}: runners and Airflow must agree"


def test_a_default_is_the_one_of_the_settings_unless_the_place_asks_for_another() -> None:
    defaults = dict(re.findall(r"\$\{(TESTOPS_\w+):-(\w+)\}", TEXT))
    assert defaults.pop("TESTOPS_LAUNCHER") == "fleet"
    assert len(defaults) >= 4
    for name, value in defaults.items():
        assert value == str(configuration.VARIABLES[name].default), name


def test_what_env_example_offers_reaches_the_containers() -> None:
    """Both ways to start read the file `.env`."""
    lines = re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE)
    of_make_run = {name for name in lines if name.startswith("TESTOPS_PORT_")} | {"TESTOPS_KAFKA_LIBS"}
    of_targets = {"PETS_TOKEN"}  # in targets.env
    assert set(lines) - of_make_run - of_targets <= SERVICES["scheduler"]["environment"].keys()


def test_images_and_topics_are_those_of_the_chart() -> None:
    chart = yaml.safe_load((ROOT / "helm-values/testops/values.yaml").read_text("utf-8"))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    images = {
        name: service["image"].replace("${TESTOPS_VERSION:-", "").rstrip("}") for name, service in SERVICES.items()
    }
    assert images["runner"] == chart["image"] == f"testops-runner:{version}"
    airflow = {name for name, service in SERVICES.items() if "testops-airflow" in service["image"]}
    assert airflow >= {"setup", "api-server", "scheduler", "dag-processor", "triggerer", "collector"}
    assert {images[name] for name in airflow} == {chart["airflowImage"]} == {f"testops-airflow:{version}"}
    assert images["kafka"] == f"apache/kafka:{chart['strimzi']['kafkaVersion']}"
    environment = SERVICES["setup"]["environment"]
    for variable, value in (
        ("TESTOPS_KAFKA_PARTITIONS", "partitions"),
        ("TESTOPS_FLEET_PARTITIONS", "fleetPartitions"),
    ):
        assert environment[variable] == f"${{{variable}:-{chart['topics'][value]}}}"
    assert SERVICES["runner"]["command"][1] == chart["group"]


def test_no_secret_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if value is not None and re.search("PASSWORD|SECRET|KEY|TOKEN|DSN|SQL_ALCHEMY", variable):
                assert "${" in str(value), variable


def test_the_services_settings_of_airflow_are_those_of_the_local_stack_and_of_the_chart() -> None:
    """The same measured values wherever Airflow runs; what depends on the place is left out."""
    local = (ROOT / "stack/airflow.py").read_text("utf-8")
    base = yaml.safe_load((ROOT / "helm-values/airflow/base.yaml").read_text("utf-8"))["config"]
    environment = SERVICES["scheduler"]["environment"]
    compared = 0
    for variable, value in environment.items():
        match = re.fullmatch(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", variable)
        if match and (chart := base.get(match[1].lower(), {}).get(match[2].lower())) is not None:
            assert str(chart) == value, variable
            setting = re.search(rf'"{match[1].lower()}\.{match[2].lower()}": ([\w."-]+)', local)
            assert setting is None or setting[1].strip('"') == value, variable
            compared += setting is not None
    assert compared >= 8


def test_the_runner_understands_its_command_line() -> None:
    from runner.__main__ import arguments

    parsed = arguments(SERVICES["runner"]["command"])
    assert (parsed.group, parsed.bind) == ("testops-fleet", "0.0.0.0")


def compose() -> list[str]:
    """The command of Docker Compose, where this machine has one."""
    built = ROOT / ".testops/bench/tools/bin/docker-compose"
    for command in (["docker", "compose"], [str(built)]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    pytest.skip("needs docker compose: `python -m bench.tools docker-compose` builds it (Go)")


def configured(folder: Path, *options: str) -> dict[str, Any]:
    """The services that Docker Compose itself would start with the files of `make env` in `folder`."""
    files = ["--env-file", str(folder / ".env"), "--file", str(ROOT / "docker-compose.yaml")]
    command = [*compose(), *files, *options, "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


def test_docker_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    make_env(tmp_path)
    assert configured(tmp_path, "--profile", "*").keys() == SERVICES.keys()
    services = configured(tmp_path)
    assert services.keys() == {name for name in SERVICES if "observability" not in SERVICES[name]["profiles"]}
    assert services["api-server"]["ports"][0]["host_ip"] == "127.0.0.1"


def test_what_stands_in_env_reaches_the_services(tmp_path: Path) -> None:
    chosen = {"OPENAI_MODEL": "small", "RUNNERS": "5", "UI_ADDRESS": "0.0.0.0", "UI_URL": "https://testops.example.com"}
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in chosen.items()))
    make_env(tmp_path)
    services = configured(tmp_path)
    assert services["scheduler"]["environment"]["OPENAI_MODEL"] == "small"
    assert services["scheduler"]["environment"]["GEMINI_MODEL"] is None, "not set, so that the default holds"
    assert services["runner"]["scale"] == 5
    assert services["api-server"]["ports"][0]["host_ip"] == "0.0.0.0"
    for variable in ("AIRFLOW__API__BASE_URL", "TESTOPS_UI_URL"):
        assert services["api-server"]["environment"][variable] == "https://testops.example.com"
