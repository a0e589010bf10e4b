"""The stages of `testops_rerun`: a further attempt at the cases of a finished run that did not pass."""

from __future__ import annotations

from testops_lib.bus import batch as batches
from testops_lib.errors import SettingsError
from testops_lib.model import Value
from testops_lib.run.connect import open_bus
from testops_lib.run.publish import Publication, publication, publish_cases
from testops_lib.settings import Settings
from testops_lib.store import Store


class Rerun(Value, frozen=True, kw_only=True):
    """A further attempt of a finished run."""

    attempt: int
    results: str
    """Where its results begin (`0:120,1:98`)."""
    target: str = ""
    """The target file's name, where the run has one."""


def open_rerun(run: str, settings: Settings) -> Rerun:
    """The next attempt of a finished run.

    Raises:
        SettingsError: the run has no report yet.
        StoreError: there is no such run.
    """
    with Store(settings.need_dsn()) as store:
        about = store.run(run)
        if store.report(run) is None or about.plan_batch is None:
            raise SettingsError(
                "has no report yet", where=f"run {run}", next_step="wait for its end, or clear its tasks in Airflow"
            )
        attempt = store.last_attempt(run) + 1
    named = (settings.targets_dir / f"{about.target}.yaml").is_file()
    return Rerun(
        attempt=attempt,
        results=batches.positions_text(open_bus(settings).results.position()),
        target=about.target if named else "",
    )


def publish_rerun(run: str, rerun: Rerun, settings: Settings) -> Publication:
    """Puts the cases that did not pass before this attempt into Kafka; they are judged by the run's own plan.

    Raises:
        ExpiredBatchError: the run's plan is no longer in Kafka.
        BusError: a delivery failed; repeating is harmless.
    """
    with Store(settings.need_dsn()) as store:
        plan_batch = store.run(run).plan_batch
        assert plan_batch is not None
        unpassed = set(store.unpassed(run, before=rerun.attempt))
        line = open_bus(settings)
        plan, _ = line.plans.read(plan_batch, run, deadline_s=settings.kafka_timeout_s)
        main, last = publish_cases(
            line,
            run,
            lambda: (case for case in store.read_cases(run) if case.id in unpassed),
            plan.policy.cases_per_batch,
        )
    return publication(plan_batch, main, last, cases=len(unpassed), results=rerun.results)
