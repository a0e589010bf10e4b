"""Why tasks of a run failed and what the gate said: written as XComs, read by later tasks and by `testops trigger`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from testops_lib.run.analyze import Outcome

CAUSE, OUTCOME = "cause", "outcome"
"""Keys of the XComs."""

_MOST_CAUSES = 3


def write_cause(context: Any, text: str) -> None:
    """Keeps why the task fails for good; it says nothing that a reader of Airflow's pages must not know."""
    context["ti"].xcom_push(CAUSE, " ".join(text.split())[:500])


def fail(context: Any, text: str) -> NoReturn:
    """Fails the task for good.

    Raises:
        AirflowFailException: always.
    """
    write_cause(context, text)
    raise AirflowFailException(text)


def read_causes(context: Any) -> tuple[str, ...]:
    """Why tasks of this run failed, the same text once; without failed tasks nothing."""
    ti = context["ti"]
    ended = ti.get_task_breadcrumbs(ti.dag_id, ti.run_id)
    failed = sorted({crumb["task_id"] for crumb in ended if crumb["state"] == "failed"} - {ti.task_id})
    causes = [text for task in failed for text in ti.xcom_pull(task_ids=[task], key=CAUSE) if text]
    # What failed because something before it had is no cause.
    return tuple(dict.fromkeys(causes or [f"task {task} failed, see its log" for task in failed]))[:_MOST_CAUSES]


def read_ending(context: Any, *, analyzed: str) -> tuple[bool, tuple[str, ...]]:
    """Whether the task `analyzed` of this run did its work, and if not, why."""
    ti = context["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[analyzed], run_ids=[ti.run_id])
    state = states.get(ti.run_id, {}).get(analyzed)
    # A task that a person marked has no return value.
    if state == "success" and ti.xcom_pull(task_ids=analyzed) is not None:
        return True, ()
    # Nothing before it is ever skipped, and whoever ends a run has the rest skipped.
    by_hand = ("somebody ended the run",) if state in ("skipped", "success") else ()
    return False, by_hand or read_causes(context)


def write_outcome(context: Any, outcome: Outcome) -> None:
    """Keeps what the gate said."""
    context["ti"].xcom_push(OUTCOME, {"verdict": outcome.verdict, "reasons": list(outcome.reasons)})


def read_outcome(context: Any) -> Outcome:
    """What the gate of this run said; a gate that did not come to an end said nothing."""
    from testops_lib.run.analyze import Outcome

    said = context["ti"].xcom_pull(task_ids="gate", key=OUTCOME)
    return Outcome(**said) if said else Outcome(verdict="none", reasons=read_causes(context))
