"""`testops_run`: one run of a target's suite, from its OpenAPI document to the gate's verdict.

Each task calls one stage of `testops_lib.run`. XComs carry ids, counts and slices only.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, Param, TaskGroup, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from testops_airflow.launcher import launch
from testops_airflow.links import with_report
from testops_airflow.outcome import read_causes, read_ending, read_outcome, write_outcome
from testops_airflow.reports import uploaded_reports
from testops_airflow.retries import DEFAULT_ARGS
from testops_airflow.review import ReviewOperator
from testops_airflow.rounds import RoundsOperator
from testops_airflow.settings import read_settings
from testops_lib import settings as configuration

SETTINGS = configuration.read()
ROUNDS = range(1, 4)
"""Numbers of the further rounds; a test compares them with `MAX_ROUNDS`."""
VERDICT = Asset("testops_gate_passed")  # without a URI, which would load all providers at each parse
"""Each run whose gate passed updates it, so that other teams' DAGs can wait for it; extra: target, run."""

TARGETS = sorted(path.stem for path in SETTINGS.targets_dir.glob("*.yaml"))
OTHER = configuration.OTHER_DOCUMENT

WHAT, SCOPE, CASES = "What is tested", "Which part of it", "Where its cases come from"
"""Sections of the form."""

PARAMS = {
    # Without a default the form refuses a run of nothing.
    "target": Param(
        type="string",
        enum=[*TARGETS, OTHER],
        values_display={OTHER: "another document, named below"},
        title="Target",
        description="An API under test, as described by a file in targets/.",
        section=WHAT,
    ),
    "spec": Param(
        None,
        type=["null", "string"],
        title="OpenAPI document",
        description="URL or file of an OpenAPI 2.0, 3.0 or 3.1 document. With a target it replaces the target's own.",
        section=WHAT,
    ),
    "base_url": Param(
        None,
        type=["null", "string"],
        title="Base URL",
        description="Where the API answers. Empty: the target's, or the document's first server.",
        section=WHAT,
    ),
    "allow_private": Param(
        False,
        type="boolean",
        title="Allow private addresses",
        description="With a document instead of a target: requests may go to loopback and private addresses.",
        section=WHAT,
    ),
    "operations": Param(
        None,
        type=["array", "null"],
        items={"type": "string"},
        title="Operations",
        description="Only operations that match a glob: GET /pets*, or an operationId. Empty: the target's.",
        section=SCOPE,
    ),
    "tags": Param(
        None,
        type=["array", "null"],
        items={"type": "string"},
        title="Tags",
        description="Only operations with one of these tags.",
        section=SCOPE,
    ),
    "methods": Param(
        "",
        type=["string", "null"],
        enum=["", "safe"],
        title="Methods",
        description="safe: only GET, HEAD and OPTIONS. Empty: what the target's policy allows.",
        section=SCOPE,
    ),
    "max_cases": Param(
        0,
        type="integer",
        minimum=0,
        title="Most cases",
        description="The best cases up to this number. 0: all.",
        section=SCOPE,
    ),
    "sources": Param(
        None,
        type=["array", "null"],
        items={"type": "string", "enum": list(configuration.SOURCES)},
        examples=list(configuration.SOURCES),
        title="Sources",
        description="Where the cases come from. rules: from the document alone. property: random data, the same every "
        "time. gemini, openai: a language model (needs GEMINI_API_KEY; OPENAI_API_KEY or OPENAI_BASE_URL). import: the "
        "files that the target names. "
        "Empty: the target's.",
        section=CASES,
    ),
    "rounds": Param(
        None,
        type=["integer", "null"],
        minimum=0,
        maximum=3,
        title="Further rounds",
        description="For operations without a 2xx and documented statuses that no answer had, by what the API answered "
        "in earlier rounds. They end early when nothing is gained. Empty: as the target says.",
        section=CASES,
    ),
    "max_tokens": Param(
        0,
        type="integer",
        minimum=0,
        title="Most tokens",
        description="Limit for language models in this run, input and output. 0: as the target says.",
        section=CASES,
    ),
    "max_money": Param(
        0,
        type="number",
        minimum=0,
        title="Most money",
        description="Limit for language models in this run, in the currency of the price table. 0: as the target says.",
        section=CASES,
    ),
    "review": Param(
        "",
        type=["string", "null"],
        enum=["", "new", "always"],
        title="Review",
        description="new: new or changed cases wait for a person. always: each run does. "
        "Empty: as the target says, which is the least.",
        section=CASES,
    ),
    "observe": Param(
        False,
        type="boolean",
        title="Keep the answers",
        description="Results keep the answers, redacted, so that `testops diff RUN RUN` can compare two runs. "
        "Further rounds do so anyway.",
        section=CASES,
    ),
}

GUIDE = """
Tests one API from its OpenAPI document and ends **success** when the gate passed, **failed** otherwise.

**To start a run**: *Trigger*, choose a target, and leave the rest empty to test it as its file says. To test another
document, choose *another document* and name it and its base URL (if the operator allows that).

**To read its outcome**: the task `gate` says in its log, and `Report` on its page shows, what did not pass. The report
has each finding with an example and the commands that show it again.

| the run | means |
| --- | --- |
| success | the gate ran and passed |
| failed, `analyze` succeeded | the gate is closed: see `gate` |
| failed, `analyze` did not | the run could not be done, or somebody ended it: `gate` says why |

**To go on**: `testops_rerun` executes again what did not pass. Clear a failed task to repeat it and all that follows;
cases that have a verdict are not sent again. A run that waits for a review stands under *Required Actions*.
"""


def _run() -> str:
    return str(get_current_context()["run_id"])


def _conf() -> Any:
    from testops_lib.run.conf import parse_conf

    context = get_current_context()
    return parse_conf({**context["params"], **(context["dag_run"].conf or {})})


def _label(text: str) -> None:
    get_current_context()["label"] = text  # type: ignore[typeddict-unknown-key]


@dag(
    dag_id="testops_run",
    schedule=None,
    catchup=False,
    max_active_runs=4,
    tags=["testops"],
    default_args=DEFAULT_ARGS,
    doc_md=GUIDE,
)
def testops_run() -> None:
    """Wires the stages: open, load, generate, review, publish, execute, collect, analyze, gate; notify is a teardown.

    The further rounds stand between `execute` and `repeat`; without any they are skipped at once. `execute_last` runs,
    one batch after the other, repetitions of failed cases and then the cases that may end the session.
    """

    @task
    def open_run() -> list[str]:
        """Resolves what the run does and registers it; returns what else it needs: a review, rounds or nothing."""
        from testops_lib.run.start import open_run

        return list(open_run(_run(), _conf(), read_settings()))

    @task
    def load_spec() -> list[dict[str, Any]]:
        """Reads and stores the document; returns a group of operations for each generate task."""
        import msgspec

        from testops_lib.run.start import load_spec

        groups = load_spec(_run(), read_settings())
        return [msgspec.to_builtins(group) for group in groups]

    @task(map_index_template="{{ label }}")
    def generate(group: dict[str, Any]) -> int:
        """Generates and stores the cases of one group of operations."""
        import msgspec

        from testops_lib.run.generate import generate
        from testops_lib.run.start import OperationGroup

        operations = msgspec.convert(group, OperationGroup)
        _label(operations.name)
        return generate(_run(), operations, read_settings())

    # Without a review the review is a task mapped over an empty list, which the scheduler skips without a worker.
    @task(trigger_rule="none_failed")
    def publish() -> list[str]:
        """Publishes the suite; returns the batches, and pushes what else the runners need under keys of its own."""
        from testops_lib.run.publish import publish

        published = publish(_run(), read_settings())
        instance = get_current_context()["ti"]
        instance.xcom_push("plan", published.plan)
        instance.xcom_push("results", published.results)
        instance.xcom_push("last", list(published.last))
        return list(published.batches)

    @task
    def find_gaps(number: int) -> int:
        """Collects the results so far; returns the number of operations from which a further round could gain."""
        from testops_lib.run import stored_rounds

        gaps = stored_rounds.find_gaps(_run(), number, read_settings())
        if not gaps:
            raise AirflowSkipException("nothing is left to gain")
        return gaps

    @task
    def generate_further(number: int) -> int:
        """Generates and stores the cases of a round, by what the API answered before."""
        from testops_lib.run import stored_rounds

        cases = stored_rounds.generate(_run(), number, read_settings())
        if not cases:
            raise AirflowSkipException("no case that the run did not have")
        return cases

    @task
    def publish_further(number: int) -> list[str]:
        """Publishes the cases of a round; returns their batches."""
        from testops_lib.run import stored_rounds

        published = stored_rounds.publish(_run(), number, read_settings())
        get_current_context()["ti"].xcom_push("last", list(published.last))
        return list(published.batches)

    @task(trigger_rule="none_failed")
    def repeat() -> list[str]:
        """Publishes failed cases to be repeated alone; returns their batches, then those that may end the session."""
        from testops_lib.run.publish import repeat

        repetitions = repeat(_run(), read_settings())
        publishing = ["publish", *(f"round_{number}.publish" for number in ROUNDS)]
        last = get_current_context()["ti"].xcom_pull(task_ids=publishing, key="last")
        return [*repetitions, *(batch for batches in last for batch in batches or ())]

    @task(trigger_rule="all_done")
    def collect() -> dict[str, int]:
        """Stores all results and makes sure that each case has one."""
        import msgspec

        from testops_lib.run.collect import collect_run

        counts: dict[str, int] = msgspec.to_builtins(collect_run(_run(), read_settings()))
        if not counts.get("published"):
            raise AirflowFailException("nothing was published: see the earlier tasks")
        return counts

    @task
    def analyze() -> dict[str, int]:
        """Writes the report."""
        from testops_lib.run.analyze import analyze

        with uploaded_reports(read_settings()) as settings:
            report = analyze(_run(), settings, causes=read_causes(get_current_context()))
        return {"findings": report.totals.findings, "advisory": report.totals.advisory, "cases": report.totals.cases}

    @task(outlets=[VERDICT])
    def gate(*, outlet_events: Any = None) -> str:
        """Fails unless the run was analyzed and passes the target's gate; then updates the asset."""
        from testops_lib.run.analyze import Outcome, gate

        context = get_current_context()
        analyzed, why = read_ending(context, analyzed="analyze")
        outcome = gate(_run(), read_settings()) if analyzed else Outcome(verdict="none", reasons=why)
        write_outcome(context, outcome)
        if outcome.verdict != "passed":
            head = "the gate is closed" if analyzed else "the run came to no verdict"
            raise AirflowFailException(f"{head}: {'; '.join(outcome.reasons)}")
        outlet_events[VERDICT].extra = {"target": _conf().target, "run": _run()}
        return outcome.verdict

    @task
    def notify() -> None:
        """Sends the outcome of the run to people."""
        from testops_lib.run.notify import notify

        context = get_current_context()
        target = str((context["dag_run"].conf or {}).get("target") or "")
        print(notify(_run(), read_settings(), outcome=read_outcome(context), target=target))

    opened = open_run()
    groups = load_spec()
    generated = generate.expand(group=groups)
    published = publish()
    common = {"plan": published["plan"], "results": published["results"]}
    executed = [launch("execute", SETTINGS, batches=published, **common)]
    has_rounds = RoundsOperator.partial(task_id="rounds").expand(needs=opened)
    for number in ROUNDS:
        with TaskGroup(f"round_{number}"):
            gaps = find_gaps(number)
            made = generate_further.override(task_id="generate")(number)
            further = publish_further.override(task_id="publish")(number)
            executed_further = launch("execute", SETTINGS, batches=further, **common)
        executed[-1] >> gaps >> made >> further
        has_rounds >> [gaps, made, further, executed_further]
        executed.append(executed_further)
    last = repeat()
    executed_last = launch("execute_last", SETTINGS, batches=last, alone=True, trigger_rule="none_failed", **common)
    collected = collect()
    # Teardowns: ending a run by hand skips all tasks but these, and the run takes its state from its leaves.
    # They have no setups, since Airflow leaves out a teardown whose setup did not succeed.
    decided = with_report(gate()).as_teardown(on_failure_fail_dagrun=True)
    opened >> groups
    reviewed = ReviewOperator.partial(task_id="review").expand(needs=opened)
    generated >> reviewed >> published
    generated >> published
    executed >> last
    executed >> collected
    executed_last >> collected >> with_report(analyze()) >> decided
    decided >> with_report(notify()).as_teardown()


run_dag = testops_run()
# Set last: otherwise each task would make four deep copies of them, a quarter of the time of a parse.
run_dag.params = PARAMS
