"""`trigger`, `collect`, `db`, `stack`: the commands that speak to servers."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import click

from testops_lib import settings as configuration


@click.group()
def db() -> None:
    """The results database (TESTOPS_DSN)."""


@db.command()
def upgrade() -> None:
    """Create the schema `testops` or bring it to this version. Harmless to repeat."""
    from testops_lib.store import Store

    with Store(configuration.read().need_dsn()) as store:
        store.upgrade()
    click.echo("the schema is up to date")


@click.command(epilog="\b\nExample:\n  testops collect --follow\n")
@click.option("--follow", is_flag=True, help="Keep following the results topic until SIGTERM.")
@click.option("--run", default="", help="Collect what this run lacks, and end.")
def collect(follow: bool, run: str) -> int:
    """Bring results from Kafka into PostgreSQL. Several collectors may work at once."""
    from testops_lib import collect as collecting
    from testops_lib import pipeline
    from testops_lib.store import Store

    settings = configuration.read()
    if follow == bool(run):
        raise click.UsageError("give either --follow or --run RUN")
    if run:
        click.echo(pipeline.collect(run, settings))
        return 0
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Store(settings.need_dsn()) as store:
        collecting.follow(pipeline.bus(settings), store, stop=stop.is_set)
    return 0


@click.group()
def stack() -> None:
    """The local servers: PostgreSQL, Apache Kafka, Airflow, the sample APIs. State lives in .testops/."""


@stack.command(epilog="\b\nExamples:\n  testops stack run --once\n  testops stack run --target airflow\n")
@click.option("--target", default="", help="A target file's name. Default: shop.")
@click.option("--spec", default="", metavar="SPEC", help="Any OpenAPI document instead: URL or file.")
@click.option("--base-url", default="", metavar="URL", help="Where that API answers.")
@click.option("--once", is_flag=True, help="End after the report with the gate's verdict as exit code.")
def run(**options: Any) -> int:
    """Start everything, test one target, show the report, serve until Ctrl-C. This is `make run`."""
    from testops_lib.stack.run import run as run_stack

    target = options.pop("target") or ("" if options["spec"] else "shop")
    return run_stack(target=target, **options)


@stack.command()
def clean() -> None:
    """End leftover servers of an earlier `stack run`, by their recorded process ids."""
    from testops_lib.stack.run import clean as clean_stack

    clean_stack()


@click.command(
    epilog="""
\b
Example:
  testops trigger --url http://127.0.0.1:8080 --target shop --junit junit.xml
"""
)
@click.option("--url", envvar="TESTOPS_UI_URL", required=True, help="Airflow's address (TESTOPS_UI_URL).")
@click.option("--username", envvar="TESTOPS_AIRFLOW_USERNAME", required=True, help="or TESTOPS_AIRFLOW_USERNAME.")
@click.option("--target", default="", help="A target file's name.")
@click.option("--spec", default="", metavar="SPEC", help="Any OpenAPI document instead.")
@click.option("--base-url", default="", metavar="URL", help="Where the API answers, when not where the target says.")
@click.option("--rerun", default="", metavar="RUN", help="Instead: execute the cases of RUN again that did not pass.")
@click.option("--run-id", default="", help="Repeating a call with the same id follows the same run.")
@click.option("--timeout", type=click.FloatRange(1), default=3600, show_default=True, metavar="SECONDS")
@click.option("--junit", type=click.Path(dir_okay=False), help="Write JUnit XML here (needs TESTOPS_DSN).")
@click.option("--no-wait", is_flag=True, help="Only start the run.")
def trigger(**options: Any) -> int:
    """Start a run through Airflow's REST API, wait for it, and end with its verdict.

    The password is read from TESTOPS_AIRFLOW_PASSWORD.
    """
    from pathlib import Path

    from testops_lib import report as reporting
    from testops_lib.analyze import settle
    from testops_lib.errors import TriggerError
    from testops_lib.store import Store
    from testops_lib.trigger import Airflow

    password = os.environ.get("TESTOPS_AIRFLOW_PASSWORD", "")
    if not password:
        raise TriggerError("no password", where="TESTOPS_AIRFLOW_PASSWORD", next_step="set the variable")
    given = ((key, options[key]) for key in ("target", "spec", "base_url"))
    conf = {key: value for key, value in given if value}
    airflow = Airflow(options["url"], username=options["username"], password=password)
    dag, conf = ("testops_rerun", {"run": options["rerun"]}) if options["rerun"] else ("testops_run", conf)
    run_id = airflow.trigger(dag, conf, run_id=options["run_id"])
    click.echo(f"run {run_id}")
    if options["no_wait"]:
        return 0
    state = ""
    for snapshot in airflow.wait(dag, run_id, timeout_s=options["timeout"]):
        if snapshot.state != state:
            state = snapshot.state
            click.echo(state)
    settings = configuration.read()
    if options["junit"]:
        with Store(settings.need_dsn()) as store:
            tested = options["rerun"] or run_id
            report = store.report(tested)
            if report is None:
                raise TriggerError("the run has no report", where=tested, next_step="see its tasks in Airflow")
            Path(options["junit"]).write_bytes(reporting.render_junit(report, list(settle(store.attempts(tested)))))
    return airflow.verdict(dag, run_id)
