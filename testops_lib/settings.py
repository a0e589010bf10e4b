"""Environment -> one value. Read by entry points only (command line, runner, DAG files).

Each setting is one field of `Settings`, with its variable, default, meaning and parser. docs/settings.md holds the same
table; a test compares the two.
"""

import fnmatch
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from testops_lib.errors import SettingsError

CHECKOUT = Path(__file__).resolve().parents[1]
"""Where the library stands: in a checkout `dags/`, `targets/` and `.env` are beside it."""

T = TypeVar("T")

OTHER_DOCUMENT = "other-document"
"""What stands in the form of a run in place of a target."""

ADHOC = ("off", "public", "private")

LAUNCHERS = ("process", "kubernetes", "fleet")

MAX_ROUNDS = 3
"""Further rounds that a run may have."""

SOURCES = ("rules", "property", "gemini", "openai", "import")
"""Where cases may come from, as a target or an order names it."""


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """An environment variable that is read."""

    meaning: str
    default: Any
    parse: Callable[[str], Any]
    """Raises ValueError, which says what is wrong with the text."""


VARIABLES: dict[str, Variable] = {}
"""Every variable that is read, by its name. A target's own secrets come on top, named by its file."""


def _setting(name: str, default: T, meaning: str, parse: Callable[[str], T] | None = None) -> T:
    """A field of `Settings` that the variable `name` fills; without `parse` it holds the text."""
    VARIABLES[name] = Variable(meaning=meaning, default=default, parse=parse or str)
    return msgspec.field(default=default, name=name)


def _number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise ValueError(f"{text!r} is not a number above {least - 1}")
        return int(text)

    return parse


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return parse


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, re.split(r"[,\s]+", text)))


def _object(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise ValueError("is not a JSON object of strings") from error


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """No `model.Value`: DAG files read settings at each parse, and importing the model takes as long as a small DAG."""

    dsn: str = _setting(
        "TESTOPS_DSN", "", "PostgreSQL of results and reports: postgresql://user:password@host:port/database"
    )
    kafka_bootstrap: str = _setting("TESTOPS_KAFKA_BOOTSTRAP", "", "Kafka's bootstrap servers: host:port[,host:port…]")
    kafka_options: dict[str, str] = _setting(
        "TESTOPS_KAFKA_OPTIONS",
        {},
        'further librdkafka settings as a JSON object (TLS, SASL), e.g. {"security.protocol": "SASL_SSL", '
        '"sasl.password": "…"}',
        _object,
    )
    store_conn_id: str = _setting(
        "TESTOPS_STORE_CONN_ID",
        "",
        "Airflow's connection (type Postgres) of results and reports; inside Airflow it replaces TESTOPS_DSN",
    )
    kafka_conn_id: str = _setting(
        "TESTOPS_KAFKA_CONN_ID",
        "",
        "Airflow's connection (type Apache Kafka) whose extra holds librdkafka settings, bootstrap.servers among them; "
        "inside Airflow it replaces TESTOPS_KAFKA_BOOTSTRAP and TESTOPS_KAFKA_OPTIONS",
    )
    kafka_partitions: int = _setting(
        "TESTOPS_KAFKA_PARTITIONS", 4, "partitions of the cases topic when it is created", _number(1)
    )
    kafka_replication: int = _setting(
        "TESTOPS_KAFKA_REPLICATION", 1, "replication factor of topics when they are created", _number(1)
    )
    kafka_timeout_s: int = _setting(
        "TESTOPS_KAFKA_TIMEOUT_S", 60, "seconds to wait for Kafka before a task fails and is retried", _number(1)
    )
    targets_dir: Path = _setting("TESTOPS_TARGETS_DIR", Path("targets"), "directory of the target files", Path)
    specs_dir: Path = _setting(
        "TESTOPS_SPECS_DIR",
        Path("targets"),
        "directory below which a run may read OpenAPI files that are named by path; when not set, TESTOPS_TARGETS_DIR",
        Path,
    )
    adhoc: str = _setting(
        "TESTOPS_ADHOC",
        "off",
        "what a run may test besides the targets as their files describe them; off: nothing; public: any document "
        "and base URL, but no private addresses; private: these as well",
        _one_of(ADHOC),
    )
    adhoc_auth: str = _setting(
        "TESTOPS_ADHOC_AUTH",
        "",
        "users of the API that `make run SPEC=… BASE_URL=…` tests, written by it from AUTH= and HEADER=; they are "
        "used at that base URL alone",
    )
    target_variables: tuple[str, ...] = _setting(
        "TESTOPS_TARGET_VARIABLES",
        (),
        "names that target files may refer to as ${NAME}, with * for any characters, e.g. PETS_*,CONN_PETS_* "
        "(default: every name but those of this list and AIRFLOW*)",
        _words,
    )
    reports_dir: str = _setting(
        "TESTOPS_REPORTS_DIR",
        "",
        "where runs also write their reports as files: a folder or, inside Airflow, a URL of its object storage such "
        "as s3://connection@bucket/path (default: nowhere; the store has them, and Airflow's API server serves them)",
    )
    launcher: str = _setting(
        "TESTOPS_LAUNCHER",
        "process",
        "how batches are executed; process: by a process of this machine; kubernetes: each in its own pod; fleet: by "
        "standing runners",
        _one_of(LAUNCHERS),
    )
    max_batches_at_once: int = _setting(
        "TESTOPS_MAX_BATCHES_AT_ONCE", 2, "runners (processes or pods) of one run at the same time", _number(1)
    )
    fleet_partitions: int = _setting(
        "TESTOPS_FLEET_PARTITIONS",
        12,
        "partitions of the fleet's topics (orders and shares) when they are created; at most as many runners work as "
        "a fleet, or on one target, at the same time",
        _number(1),
    )
    fleet_wait_s: int = _setting(
        "TESTOPS_FLEET_WAIT_S",
        3600,
        "seconds that a fleet may take for the batches of a run, on top of what the target's rate requires, before "
        "the task is retried",
        _number(1),
    )
    proxy: str = _setting(
        "TESTOPS_PROXY",
        "",
        "HTTP proxy through which runners send every request to targets, http://host:port; then only hosts "
        "are checked, not their addresses (default: none; HTTP_PROXY and the like are not used)",
    )
    pool: str = _setting(
        "TESTOPS_POOL",
        "default_pool",
        "Airflow pool in which the batches of all runs take slots; for pods it should include deferred tasks",
    )
    runner_image: str = _setting(
        "TESTOPS_RUNNER_IMAGE",
        "",
        "image of the pods, e.g. registry.example.com/testops-runner:0.1.0; `make image` builds it",
    )
    pod_namespace: str = _setting(
        "TESTOPS_POD_NAMESPACE", "", "namespace of the pods (default: Airflow's own, else default)"
    )
    pod_template: Path | None = _setting(
        "TESTOPS_POD_TEMPLATE", None, "YAML file of the pod (default: the one that testops_airflow brings)", Path
    )
    pod_kafka_bootstrap: str = _setting(
        "TESTOPS_POD_KAFKA_BOOTSTRAP",
        "",
        "Kafka's bootstrap servers as pods reach them (default: TESTOPS_KAFKA_BOOTSTRAP)",
    )
    kubeconfig: str = _setting(
        "KUBECONFIG",
        "",
        "how Airflow reaches Kubernetes from outside (default: from inside, by its service account)",
    )
    ui_url: str = _setting("TESTOPS_UI_URL", "", "Airflow's address, for links in notifications")
    webhook_url: str = _setting(
        "TESTOPS_WEBHOOK_URL", "", "where the outcome of a run is posted as JSON (default: nowhere)"
    )
    webhook_secret: str = _setting(
        "TESTOPS_WEBHOOK_SECRET", "", "signs the webhook: HMAC-SHA256 in X-TestOps-Signature"
    )
    webhook_secret_next: str = _setting(
        "TESTOPS_WEBHOOK_SECRET_NEXT",
        "",
        "while the secret is replaced, the one to come: it signs the webhook, too, in X-TestOps-Signature-Next",
    )
    gemini_api_key: str = _setting("GEMINI_API_KEY", "", "key of the Gemini API; with it, the source `gemini` works")
    gemini_base_url: str = _setting(
        "GEMINI_BASE_URL", "", "another address that speaks the Gemini protocol (default: Google's)"
    )
    gemini_model: str = _setting("GEMINI_MODEL", "gemini-2.5-flash", "the model")
    gemini_thinking_budget: int | None = _setting(
        "GEMINI_THINKING_BUDGET",
        None,
        "tokens that the model may spend on thinking in one call; 0: none (default: the model decides)",
        _number(0),
    )
    openai_api_key: str = _setting("OPENAI_API_KEY", "", "key of the source `openai`; a local server needs none")
    openai_base_url: str = _setting(
        "OPENAI_BASE_URL",
        "https://api.openai.com/v1",
        "any server that speaks OpenAI's chat completions, e.g. http://127.0.0.1:11434/v1",
    )
    openai_model: str = _setting("OPENAI_MODEL", "gpt-5-mini", "the model")
    model_timeout_s: int = _setting(
        "TESTOPS_MODEL_TIMEOUT_S", 180, "seconds to wait for one answer of a language model", _number(1)
    )
    model_calls_at_once: int = _setting(
        "TESTOPS_MODEL_CALLS_AT_ONCE", 4, "calls of a language model at the same time", _number(1)
    )
    model_operations_per_call: int = _setting(
        "TESTOPS_MODEL_OPERATIONS_PER_CALL",
        4,
        "operations in one call; use fewer for models with a short context",
        _number(1),
    )
    prices_file: Path | None = _setting(
        "TESTOPS_PRICES_FILE",
        None,
        "YAML file of prices that override the shipped ones (docs/generation.md, Price)",
        Path,
    )

    def __repr__(self) -> str:
        """Without the values: some are secrets."""
        return f"Settings(launcher={self.launcher!r}, targets_dir={str(self.targets_dir)!r}, …)"

    def need_dsn(self) -> str:
        """The PostgreSQL address.

        Raises:
            SettingsError: it is not set.
        """
        return _needed("TESTOPS_DSN", self.dsn, conn_id=self.store_conn_id)

    def need_kafka(self) -> str:
        """Kafka's bootstrap servers.

        Raises:
            SettingsError: they are not set.
        """
        return _needed("TESTOPS_KAFKA_BOOTSTRAP", self.kafka_bootstrap, conn_id=self.kafka_conn_id)

    def reports_folder(self) -> Path | None:
        """The folder that runs write their reports into; None: they write none.

        Raises:
            SettingsError: it is a URL, which only Airflow's tasks can write to.
        """
        if "://" in self.reports_dir:
            raise SettingsError(
                f"{self.reports_dir} is a URL, which only the tasks of Airflow write to",
                where="TESTOPS_REPORTS_DIR",
                next_step="name a folder here, or leave it empty: the store has the reports",
            )
        return Path(self.reports_dir) if self.reports_dir else None

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
    return name not in VARIABLES and not name.startswith(("AIRFLOW", "_AIRFLOW"))


def _needed(name: str, value: str, *, conn_id: str = "") -> str:
    if not value:
        unread = f", and only Airflow's tasks read its connection {conn_id!r}" if conn_id else ""
        raise SettingsError(
            f"is not set{unread}",
            where=name,
            next_step=f"set it: {VARIABLES[name].meaning}; `make run` does so for the servers it starts",
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
    earlier = os.environ.get("TESTOPS_DOTENV_NAMES", "").split(",")
    values = {name: value for name, value in _dotenv(Path(path)).items() if name in earlier or name not in os.environ}
    os.environ.update(values, TESTOPS_DOTENV_NAMES=",".join(sorted({*filter(None, earlier), *values})))


def _dotenv(path: Path) -> dict[str, str]:
    """The lines of a file; quotes around a value are dropped, empty values left out."""
    values: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.strip().isidentifier() and value.strip():
            values.setdefault(name.strip(), value.strip().strip("\"'"))
    return values


def read(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process; for its own environment, with what `.env` holds now (`reread_dotenv`).

    A variable that is empty counts as not set. Without TESTOPS_SPECS_DIR, documents lie beside the targets.

    Raises:
        SettingsError: a variable holds what it cannot mean.
    """
    if environ is os.environ:
        reread_dotenv()
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        name = field.encode_name
        if text := environ.get(name, "").strip():
            try:
                values[field.name] = VARIABLES[name].parse(text)
            except ValueError as error:
                raise SettingsError(str(error), where=name, next_step=VARIABLES[name].meaning) from error
    if "targets_dir" in values:
        values.setdefault("specs_dir", values["targets_dir"])
    return Settings(**values)
