"""`trigger`, `collect`, `dead-letters`, `db`: the commands that speak to servers."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from testops_lib import settings as configuration
from testops_lib.cli.exit_codes import NOTHING_FOUND
from testops_lib.cli.options import BaseUrl
from testops_lib.cli.output import say
from testops_lib.errors import SettingsError

if TYPE_CHECKING:
    from testops_lib.bus.client import Bus
    from testops_lib.bus.dead_letters import DeadLetter
    from testops_lib.settings import Settings
    from testops_lib.store import Migration, Schema

NO_ANSWER = "no answer"
"""What `trigger` says of an Airflow that is away, in place of a run's state."""

SHOWN_BYTES = 4096
"""Of a dead letter, unless asked for more."""


@click.group()
def db() -> None:
    """The results database (TESTOPS_DSN)."""


@db.command(epilog="\b\nExample:\n  testops db upgrade\n")
def upgrade() -> None:
    """Create the schema `testops` or bring it to this version. Harmless to repeat.

    Prints each migration with the oldest installation that still works after it. A newer schema that works with this
    installation stays as it is, so that a rollback may run this too.
    """
    from testops_lib.store import Store

    with Store(configuration.read().need_dsn()) as store:
        for migration in store.upgrade():
            say(_effect(migration))
        say(_state(store.schema()))


@db.command(epilog="\b\nExample:\n  testops db status\n")
def status() -> int:
    """The schema's version, which installations work with it, and what `upgrade` would do (then exit code 1)."""
    from testops_lib.store import SCHEMA_VERSION, Store, is_usable, pending

    with Store(configuration.read().need_dsn()) as store:
        schema = store.schema()
    say(_state(schema))
    say(f"this installation: {SCHEMA_VERSION}")
    if schema is not None and schema.version > SCHEMA_VERSION:
        say("works with it" if is_usable(schema) else "too old: update this installation")
        return 0 if is_usable(schema) else 1
    migrations = pending(schema.version if schema is not None else None)
    for migration in migrations:
        say(f"to come: {_effect(migration)}")
    return 1 if migrations else 0


def _state(schema: Schema | None) -> str:
    if schema is None:
        return "schema: none"
    return f"schema: {schema.version}, works with installations of {schema.oldest_code} or later"


def _effect(migration: Migration) -> str:
    return f"{migration.version} {migration.title} (works with installations of {migration.oldest_code} or later)"


@click.command(epilog="\b\nExample:\n  testops collect --follow\n")
@click.option("--follow", is_flag=True, help="Keep following the results topic until SIGTERM.")
@click.option("--run", default="", help="Collect what this run lacks, and end.")
def collect(follow: bool, run: str) -> int:
    """Bring results from Kafka into PostgreSQL. Several collectors may work at once."""
    from testops_lib.run import collect as collecting
    from testops_lib.run.collect import collect_run
    from testops_lib.run.connect import open_bus
    from testops_lib.store import Store

    settings = configuration.read()
    if follow == bool(run):
        raise click.UsageError("give either --follow or --run RUN")
    if run:
        say(collect_run(run, settings))
        return NOTHING_FOUND
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Store(settings.need_dsn()) as store:
        collecting.follow(open_bus(settings), store, stop=stop.is_set)
    return NOTHING_FOUND


@click.group(name="dead-letters")
def dead_letters() -> None:
    """Records that nobody could read: what they are, why, and putting them back."""


@dead_letters.command(name="list", epilog="\b\nExample:\n  testops dead-letters list --all\n")
@click.option("--run", default="", help="Only those of this run.")
@click.option("--all", "every", is_flag=True, help="Also those that were put back.")
def list_letters(run: str, every: bool) -> None:
    """One line each, oldest first: place, time, origin, run, reason."""
    from testops_lib.run.connect import open_bus
    from testops_lib.text import one_line, plural

    with open_bus(configuration.read()) as line:
        letters = [letter for letter in line.dead_letters.read() if run in ("", letter.run)]
    shown = [letter for letter in letters if every or not letter.requeued]
    for letter in shown:
        time = f"{letter.time:%Y-%m-%d %H:%M:%SZ}" if letter.time else "time unknown"
        origin = f"{one_line(letter.topic)}:{letter.origin_partition}:{letter.origin_offset}"
        back = f"  (put back: {', '.join(map(one_line, letter.requeued))})" if letter.requeued else ""
        say(f"{letter.place}  {time}  {origin}  run {one_line(letter.run) or '?'}  {one_line(letter.reason)}{back}")
    summary = [plural(len(shown), "dead letter")]
    if len(shown) < len(letters):
        summary.append(f"{len(letters) - len(shown)} more put back (--all)")
    say(", ".join(summary))


@dead_letters.command(epilog="\b\nExample:\n  testops dead-letters show 0:17 --save record.json\n")
@click.argument("place")
@click.option("--bytes", "count", type=click.IntRange(0), default=SHOWN_BYTES, show_default=True, help="At most.")
@click.option("--save", type=click.Path(dir_okay=False), metavar="FILE", help="Write the record as it is to a file.")
def show(place: str, count: int, save: str | None) -> None:
    """What is known of the dead letter at PLACE (as `list` prints it), and its bytes, safe to print.

    Credentials are masked on the screen, and kept in --save.
    """
    from testops_lib.redact import Redactor
    from testops_lib.run.connect import open_bus
    from testops_lib.text import one_line, visible

    with open_bus(configuration.read()) as line:
        letter = _letter(line, place)
    if save:
        Path(save).write_bytes(letter.data)
    details = {
        "time": letter.time.isoformat() if letter.time else "?",
        "reason": letter.reason,
        "origin": f"{letter.topic}:{letter.origin_partition}:{letter.origin_offset}",
        "run": letter.run or "? (it had no header `run`)",
        "key": (letter.key or b"").decode("utf-8", "backslashreplace"),
        "bytes": f"{letter.whole_bytes:,}",
        "put back": ", ".join(letter.requeued) or "no",
    }
    for name, text in details.items():
        say(f"{name + ':':10} {one_line(text, 2000)}")
    text = letter.data.decode("utf-8", "backslashreplace")
    say("\n" + visible(Redactor().text(text)[:count]))
    if len(text) > count:
        say(f"… ({len(letter.data):,} bytes; --bytes shows more, --save FILE keeps all)")


@dead_letters.command(
    epilog="""
\b
Examples:
  testops dead-letters show 0:17 --save case.json
  testops dead-letters requeue 0:17 --with case.json --execute
"""
)
@click.argument("place")
@click.option("--with", "repaired", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="These bytes.")
@click.option("--run", default="", help="The run it belongs to, when the record does not say.")
@click.option("--execute", is_flag=True, help="Then execute the case here and collect its result (needs TESTOPS_DSN).")
@click.option("--again", is_flag=True, help="Although it has been put back before.")
def requeue(place: str, repaired: str | None, run: str, execute: bool, again: bool) -> int:
    """Put the dead letter at PLACE back to where it came from, unchanged or repaired.

    It gets a new place, which no batch of its run holds: a case is executed by --execute, or by the printed commands.
    Its result then counts for the run, when the run published a case of that id; clear `analyze` to renew the report.
    """
    from testops_lib.errors import BusError
    from testops_lib.run.collect import collect_run
    from testops_lib.run.connect import open_bus

    settings = configuration.read()
    if execute:
        settings.need_dsn()
    with open_bus(settings) as line:
        letter = _letter(line, place)
        if letter.requeued and not again:
            raise BusError(
                f"was put back already, to {', '.join(letter.requeued)}",
                where=f"dead letter {place}",
                next_step="give --again to do it once more (results count once)",
            )
        run = run or letter.run
        plan = _plan_of(settings, run)
        batch = line.dead_letters.requeue(letter, data=Path(repaired).read_bytes() if repaired else None, run=run)
        is_case = letter.topic == line.topics.cases
    say(f"put back to {batch}")
    runner = ["-m", "runner", "--run", run, "--plan", plan, "--batch", str(batch)]
    if not execute:
        commands = [["python", *runner]] if is_case else []
        commands.append(["testops", "collect", "--run", run])
        say("\n".join(["to have it counted:", *(f"  {shlex.join(command)}" for command in commands)]))
        return NOTHING_FOUND
    if is_case and (code := subprocess.run([sys.executable, *runner]).returncode):
        return code
    counts = collect_run(run, settings)
    say(f"run {run}: {counts.published} published, {counts.stored} stored, {counts.no_result} without result")
    return NOTHING_FOUND


def _letter(line: Bus, place: str) -> DeadLetter:
    from testops_lib.errors import BusError

    letters = [letter for letter in line.dead_letters.read() if letter.place == place]
    if not letters:
        raise BusError("there is none", where=f"dead letter {place}", next_step="see `testops dead-letters list --all`")
    return letters[0]


def _plan_of(settings: Settings, run: str) -> str:
    """Where the run's plan lies; the word PLAN without a store to ask."""
    from testops_lib.errors import StoreError
    from testops_lib.store import Store

    if not settings.dsn:
        return "PLAN"
    with Store(settings.dsn) as store:
        at = store.run(run).plan_batch
    if at is None:
        raise StoreError("has no plan", where=f"run {run}", next_step="clear its task `publish`")
    return str(at)


@click.command(
    epilog="""
\b
Examples:
  testops trigger --url http://127.0.0.1:8080 --target shop --junit junit.xml
  testops trigger --url http://127.0.0.1:8080 --target shop --param rounds=2 --param 'operations=["GET /products*"]'
"""
)
@click.option("--url", envvar="TESTOPS_UI_URL", required=True, help="Airflow's address (TESTOPS_UI_URL).")
@click.option("--username", envvar="TESTOPS_AIRFLOW_USERNAME", required=True, help="or TESTOPS_AIRFLOW_USERNAME.")
@click.option("--target", default="", help="A target file's name.")
@click.option("--spec", default="", metavar="SPEC", help="Any OpenAPI document instead.")
@click.option(
    "--base-url",
    type=BaseUrl(),
    default="",
    metavar="URL",
    help="Where the API answers, when not where the target says.",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="What else the run's form holds, as JSON or as plain text; repeatable.",
)
@click.option("--rerun", default="", metavar="RUN", help="Instead: execute the cases of RUN again that did not pass.")
@click.option("--run-id", default="", help="Repeating a call with the same id follows the same run.")
@click.option("--timeout", type=click.FloatRange(1), default=3600, show_default=True, metavar="SECONDS")
@click.option("--junit", type=click.Path(dir_okay=False), help="Write JUnit XML here (needs TESTOPS_DSN).")
@click.option("--no-wait", is_flag=True, help="Only start the run.")
@click.option("--unpause", is_flag=True, help="Unpause the DAG if it is paused, instead of refusing to start a run.")
def trigger(**options: Any) -> int:
    """Start a run through Airflow's REST API, wait for it, and end with its verdict.

    The password is read from TESTOPS_AIRFLOW_PASSWORD.
    """
    from testops_lib import report as reporting
    from testops_lib.airflow_api import WAITS, Airflow
    from testops_lib.errors import TriggerError
    from testops_lib.run.conf import parse_conf
    from testops_lib.store import Store
    from testops_lib.text import one_line
    from testops_lib.verdict.attempts import settle

    named = ((key, options[key]) for key in ("target", "spec", "base_url"))
    conf = {**dict(_param(param) for param in options["params"]), **{key: value for key, value in named if value}}
    if options["rerun"] and conf:
        raise SettingsError("changes nothing of a run", where="--rerun", next_step=f"leave out {', '.join(conf)}")
    if not options["rerun"]:
        parse_conf(conf)  # what the run would refuse is said here and now
    password = os.environ.get("TESTOPS_AIRFLOW_PASSWORD", "")
    if not password:
        raise TriggerError("no password", where="TESTOPS_AIRFLOW_PASSWORD", next_step="set the variable")
    state = ""

    def tell_once() -> None:
        nonlocal state
        if state != NO_ANSWER:
            state = NO_ANSWER
            say(f"{NO_ANSWER} from {options['url']}: trying again")

    airflow = Airflow(options["url"], username=options["username"], password=password, meanwhile=tell_once)
    # The form has no default for it.
    conf.setdefault("target", configuration.OTHER_DOCUMENT)
    dag, conf = ("testops_rerun", {"run": options["rerun"]}) if options["rerun"] else ("testops_run", conf)
    if options["unpause"]:
        airflow.unpause(dag)
    elif airflow.is_paused(dag):
        raise TriggerError(
            "is paused: a run of it would stay queued",
            where=f"DAG {dag}",
            next_step="unpause it in Airflow, by the switch beside its name, or give --unpause",
        )
    name = f"rerun of {options['rerun']}" if options["rerun"] else options["target"] or options["spec"]
    run_id = airflow.trigger(dag, conf, run_id=options["run_id"], name=options["target"], note=name)
    say(f"run {run_id}")
    if options["no_wait"]:
        return NOTHING_FOUND
    for snapshot in airflow.wait(dag, run_id, timeout_s=options["timeout"]):
        status = snapshot.state
        if any(task.state == WAITS for task in snapshot.tasks):
            status = f"waits for a person: {airflow.page(dag, run_id)}/required_actions"
        elif status == "queued" and airflow.is_paused(dag):
            status = f"queued: somebody has paused {dag}"
        if status != state:
            state = status
            say(state)
    outcome = airflow.outcome(dag, run_id)
    say(outcome.words)
    for reason in outcome.reasons:
        say(f"  {one_line(reason, 500)}")
    settings = configuration.read()
    if options["junit"]:
        with Store(settings.need_dsn()) as store:
            tested = options["rerun"] or run_id
            report = store.report(tested)
            if report is None:
                raise TriggerError("the run has no report", where=tested, next_step="see its tasks in Airflow")
            Path(options["junit"]).write_bytes(reporting.render_junit(report, settle(store.attempts(tested))))
    return outcome.code


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"{text!r} is no NAME=VALUE", where="--param", next_step="such as --param rounds=2")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value
