"""Environment -> one value. Read by entry points only (command line, runner, DAG files)."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from testops_lib.errors import SettingsError

CHECKOUT = Path(__file__).resolve().parents[1]
"""Where the library stands: in a checkout `dags/`, `targets/` and `.env` are beside it."""

DOCUMENTATION: dict[str, str] = {
    "TESTOPS_DSN": "PostgreSQL of results and reports: postgresql://user:password@host:port/database",
    "TESTOPS_KAFKA_BOOTSTRAP": "Kafka's bootstrap servers: host:port[,host:port…]",
    "TESTOPS_KAFKA_OPTIONS": "further librdkafka settings as a JSON object (TLS, SASL), e.g. "
    '{"security.protocol": "SASL_SSL", "sasl.password": "…"}',
    "TESTOPS_KAFKA_PARTITIONS": "partitions of the cases topic when it is created (default 4)",
    "TESTOPS_KAFKA_REPLICATION": "replication factor of topics when they are created (default 1)",
    "TESTOPS_KAFKA_TIMEOUT_S": "seconds to wait for Kafka before a task fails and is retried (default 60)",
    "TESTOPS_TARGETS_DIR": "directory of the target files (default targets)",
    "TESTOPS_SPECS_DIR": "directory below which a run may read OpenAPI files that are named by path "
    "(default: the targets directory)",
    "TESTOPS_ADHOC": "what a run may be ordered for besides targets as their files describe them: off (default): "
    "nothing; public: any document and base URL, no private addresses; private: these as well",
    "TESTOPS_ADHOC_AUTH": "users of the API that `make run SPEC=… BASE_URL=…` tests, as it writes them from AUTH= and "
    "HEADER=; they are used at that base URL alone",
    "TESTOPS_TARGET_VARIABLES": "names that target files may refer to as ${NAME}, with * for any characters, e.g. "
    "PETS_*,CONN_PETS_* (default: every name but those of this list and AIRFLOW*)",
    "TESTOPS_REPORTS_DIR": "where runs write their reports (default .testops/reports)",
    "TESTOPS_LAUNCHER": "how batches are executed: process (default), kubernetes: each in a pod of its own, or fleet: "
    "by runners that stand",
    "TESTOPS_MAX_BATCHES_AT_ONCE": "runners (processes or pods) of one run at the same time (default 2)",
    "TESTOPS_FLEET_PARTITIONS": "partitions of the topics of orders and of shares when they are created: no more "
    "runners than these work as a fleet, or on one target, at the same time (default 12)",
    "TESTOPS_FLEET_WAIT_S": "seconds that a fleet may take for the batches of a run, beside what the target's rate "
    "needs by itself, before the task is retried (default 3600)",
    "TESTOPS_PROXY": "HTTP proxy through which runners send every request to targets, http://host:port; only the hosts "
    "are checked then, not their addresses (default: none; HTTP_PROXY and the like are not used)",
    "TESTOPS_POOL": "Airflow pool in which the batches of all runs take slots (default default_pool); "
    "for pods let it include deferred tasks",
    "TESTOPS_RUNNER_IMAGE": "image of the pods, e.g. registry.example.com/testops-runner:0.1.0; `make image` builds it",
    "TESTOPS_POD_NAMESPACE": "namespace of the pods (default: Airflow's own, else default)",
    "TESTOPS_POD_TEMPLATE": "YAML file of the pod (default: pod.yaml beside the DAG files)",
    "TESTOPS_POD_KAFKA_BOOTSTRAP": "Kafka's bootstrap servers as pods reach them (default: TESTOPS_KAFKA_BOOTSTRAP)",
    "KUBECONFIG": "how Airflow reaches Kubernetes from outside of it (default: by its service account, from inside)",
    "TESTOPS_UI_URL": "Airflow's address, for links in notifications",
    "TESTOPS_WEBHOOK_URL": "where the outcome of a run is posted as JSON (default: nowhere)",
    "TESTOPS_WEBHOOK_SECRET": "signs the webhook: HMAC-SHA256 in X-TestOps-Signature",
    "GEMINI_API_KEY": "key of the Gemini API; with it, the source `gemini` works",
    "GEMINI_BASE_URL": "another address that speaks the Gemini protocol (default: Google's)",
    "GEMINI_MODEL": "the model (default gemini-2.5-flash)",
    "GEMINI_THINKING_BUDGET": "tokens that the model may think for a call; 0: none (default: the model decides)",
    "OPENAI_API_KEY": "key of the source `openai`; a local server needs none",
    "OPENAI_BASE_URL": "any server that speaks OpenAI's chat completions, e.g. http://127.0.0.1:11434/v1 "
    "(default: OpenAI's)",
    "OPENAI_MODEL": "the model (default gpt-5-mini)",
    "TESTOPS_MODEL_TIMEOUT_S": "seconds to wait for one answer of a language model (default 180)",
    "TESTOPS_MODEL_CALLS_AT_ONCE": "calls of a language model at the same time (default 4)",
    "TESTOPS_MODEL_OPERATIONS_PER_CALL": "operations that one call is about (default 4); "
    "fewer for models with a short context",
    "TESTOPS_PRICES_FILE": "prices of language models that win over the shipped ones (docs/generation.md, Price)",
}
"""Every variable that is read, with its meaning. A target's own secrets come on top, named by its file."""

OTHER_DOCUMENT = "other-document"
"""What stands in the form of a run in place of a target."""

ADHOC = ("off", "public", "private")

LAUNCHERS = ("process", "kubernetes", "fleet")

SOURCES = ("rules", "property", "gemini", "openai", "import")
"""Where cases may come from, as a target or an order names it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """No `model.Value`: DAG files read settings at each parse, and importing the model takes as long as a small DAG."""

    dsn: str = ""
    kafka_bootstrap: str = ""
    kafka_options: dict[str, str] = msgspec.field(default_factory=dict)
    kafka_partitions: int = 4
    kafka_replication: int = 1
    kafka_timeout_s: int = 60
    targets_dir: Path = Path("targets")
    specs_dir: Path = Path("targets")
    adhoc: str = "off"
    adhoc_auth: str = ""
    target_variables: tuple[str, ...] = ()
    """Globs; empty: every name but those that are ours."""
    reports_dir: Path = Path(".testops/reports")
    launcher: str = "process"
    max_batches_at_once: int = 2
    fleet_partitions: int = 12
    fleet_wait_s: int = 3600
    pool: str = "default_pool"
    runner_image: str = ""
    pod_namespace: str = ""
    pod_template: Path | None = None
    pod_kafka_bootstrap: str = ""
    kubeconfig: str = ""
    proxy: str = ""
    ui_url: str = ""
    webhook_url: str = ""
    webhook_secret: str = ""
    gemini_api_key: str = ""
    gemini_base_url: str = ""
    gemini_model: str = "gemini-2.5-flash"
    gemini_thinking_budget: int | None = None
    openai_api_key: str = ""
    openai_base_url: str = "https://api.openai.com/v1"
    openai_model: str = "gpt-5-mini"
    model_timeout_s: int = 180
    model_calls_at_once: int = 4
    model_operations_per_call: int = 4
    prices_file: Path | None = None

    def __repr__(self) -> str:
        """Without the values: some are secrets."""
        return f"Settings(launcher={self.launcher!r}, targets_dir={str(self.targets_dir)!r}, …)"

    def need_dsn(self) -> str:
        """The PostgreSQL address.

        Raises:
            SettingsError: it is not set.
        """
        return _needed("TESTOPS_DSN", self.dsn)

    def need_kafka(self) -> str:
        """Kafka's bootstrap servers.

        Raises:
            SettingsError: they are not set.
        """
        return _needed("TESTOPS_KAFKA_BOOTSTRAP", self.kafka_bootstrap)

    def need_runner_image(self) -> str:
        """The image of the runner's pods.

        Raises:
            SettingsError: it is not set.
        """
        return _needed("TESTOPS_RUNNER_IMAGE", self.runner_image)


def may_be_named(name: str, settings: Settings) -> bool:
    """Whether target files may refer to the variable `name`."""
    if settings.target_variables:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in settings.target_variables)
    return name not in DOCUMENTATION and not name.startswith(("AIRFLOW", "_AIRFLOW"))


def _needed(name: str, value: str) -> str:
    if not value:
        raise SettingsError(
            "is not set",
            where=name,
            next_step=f"set it: {DOCUMENTATION[name]}; `make run` does so for the servers it starts",
        )
    return value


_from_dotenv: set[str] = set()
"""Names that this process put into its environment."""


def read_dotenv(path: Path) -> set[str]:
    """Puts the `NAME=value` lines of a file into the environment where it has no such name; gives all names that this
    process ever put there.
    """
    added = {name: value for name, value in _dotenv(path).items() if name not in os.environ}
    os.environ.update(added)
    _from_dotenv.update(added)
    return set(_from_dotenv)


def reread_dotenv() -> None:
    """Takes over what was added to `.env`, or changed in it, since `make run` started the servers.

    For tasks and runners of `make run`, which says by `TESTOPS_DOTENV` where the file is, and by `TESTOPS_DOTENV_NAMES`
    which names it had from there; those that came from elsewhere stay.
    """
    if not (path := os.environ.get("TESTOPS_DOTENV")):
        return
    own = os.environ.get("TESTOPS_DOTENV_NAMES", "").split(",")
    new = {name: value for name, value in _dotenv(Path(path)).items() if name in own or name not in os.environ}
    os.environ.update(new, TESTOPS_DOTENV_NAMES=",".join(sorted({*filter(None, own), *new})))


def _dotenv(path: Path) -> dict[str, str]:
    """The lines of a file; quotes around a value are dropped, empty values left out."""
    found: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.strip().isidentifier() and value.strip():
            found.setdefault(name.strip(), value.strip().strip("\"'"))
    return found


def read(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process; for its own environment, with what `.env` holds now (`reread_dotenv`).

    Raises:
        SettingsError: a variable holds what it cannot mean.
    """
    if environ is os.environ:
        reread_dotenv()
    given = {name: environ[name].strip() for name in DOCUMENTATION if environ.get(name, "").strip()}

    def number(name: str, default: int, least: int = 1) -> int:
        text = given.get(name, str(default))
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise SettingsError(
                f"{text!r} is not a number above {least - 1}", where=name, next_step=DOCUMENTATION[name]
            )
        return int(text)

    try:
        options = msgspec.json.decode(given.get("TESTOPS_KAFKA_OPTIONS", "{}"), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise SettingsError(
            "is not a JSON object of strings",
            where="TESTOPS_KAFKA_OPTIONS",
            next_step=DOCUMENTATION["TESTOPS_KAFKA_OPTIONS"],
        ) from error
    launcher = given.get("TESTOPS_LAUNCHER", "process")
    if launcher not in LAUNCHERS:
        raise SettingsError(
            f"{launcher!r} is no launcher", where="TESTOPS_LAUNCHER", next_step=f"use {' or '.join(LAUNCHERS)}"
        )
    adhoc = given.get("TESTOPS_ADHOC", "off")
    if adhoc not in ADHOC:
        raise SettingsError(
            f"{adhoc!r} is none of {', '.join(ADHOC)}", where="TESTOPS_ADHOC", next_step="see docs/settings.md"
        )
    return Settings(
        dsn=given.get("TESTOPS_DSN", ""),
        kafka_bootstrap=given.get("TESTOPS_KAFKA_BOOTSTRAP", ""),
        kafka_options=options,
        kafka_partitions=number("TESTOPS_KAFKA_PARTITIONS", 4),
        kafka_replication=number("TESTOPS_KAFKA_REPLICATION", 1),
        kafka_timeout_s=number("TESTOPS_KAFKA_TIMEOUT_S", 60),
        targets_dir=Path(given.get("TESTOPS_TARGETS_DIR", "targets")),
        specs_dir=Path(given.get("TESTOPS_SPECS_DIR") or given.get("TESTOPS_TARGETS_DIR", "targets")),
        adhoc=adhoc,
        adhoc_auth=given.get("TESTOPS_ADHOC_AUTH", ""),
        target_variables=tuple(filter(None, re.split(r"[,\s]+", given.get("TESTOPS_TARGET_VARIABLES", "")))),
        reports_dir=Path(given.get("TESTOPS_REPORTS_DIR", ".testops/reports")),
        launcher=launcher,
        max_batches_at_once=number("TESTOPS_MAX_BATCHES_AT_ONCE", 2),
        fleet_partitions=number("TESTOPS_FLEET_PARTITIONS", 12),
        fleet_wait_s=number("TESTOPS_FLEET_WAIT_S", 3600),
        proxy=given.get("TESTOPS_PROXY", ""),
        pool=given.get("TESTOPS_POOL", "default_pool"),
        runner_image=given.get("TESTOPS_RUNNER_IMAGE", ""),
        pod_namespace=given.get("TESTOPS_POD_NAMESPACE", ""),
        pod_template=Path(given["TESTOPS_POD_TEMPLATE"]) if "TESTOPS_POD_TEMPLATE" in given else None,
        pod_kafka_bootstrap=given.get("TESTOPS_POD_KAFKA_BOOTSTRAP", ""),
        kubeconfig=given.get("KUBECONFIG", ""),
        ui_url=given.get("TESTOPS_UI_URL", ""),
        webhook_url=given.get("TESTOPS_WEBHOOK_URL", ""),
        webhook_secret=given.get("TESTOPS_WEBHOOK_SECRET", ""),
        gemini_api_key=given.get("GEMINI_API_KEY", ""),
        gemini_base_url=given.get("GEMINI_BASE_URL", ""),
        gemini_model=given.get("GEMINI_MODEL", "gemini-2.5-flash"),
        gemini_thinking_budget=number("GEMINI_THINKING_BUDGET", 0, 0) if "GEMINI_THINKING_BUDGET" in given else None,
        openai_api_key=given.get("OPENAI_API_KEY", ""),
        openai_base_url=given.get("OPENAI_BASE_URL", "https://api.openai.com/v1"),
        openai_model=given.get("OPENAI_MODEL", "gpt-5-mini"),
        model_timeout_s=number("TESTOPS_MODEL_TIMEOUT_S", 180),
        model_calls_at_once=number("TESTOPS_MODEL_CALLS_AT_ONCE", 4),
        model_operations_per_call=number("TESTOPS_MODEL_OPERATIONS_PER_CALL", 4),
        prices_file=Path(given["TESTOPS_PRICES_FILE"]) if "TESTOPS_PRICES_FILE" in given else None,
    )
