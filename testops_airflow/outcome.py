"""Causes of failed tasks and the gate's outcome: XComs that later tasks and `testops trigger` read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from testops_lib.run.analyze import Outcome

CAUSE, OUTCOME = "cause", "outcome"
"""Keys of the XComs."""

_MOST_CAUSES = 3


def write_cause(context: Any, text: str) -> None:
    """Pushes the cause of the task's final failure. It holds nothing that readers of Airflow's pages must not see."""
    context["ti"].xcom_push(CAUSE, " ".join(text.split())[:500])


def fail(context: Any, text: str) -> NoReturn:
    """Fails the task for good.

    Raises:
        AirflowFailException: always.
    """
    write_cause(context, text)
    raise AirflowFailException(text)


def read_causes(context: Any) -> tuple[str, ...]:
    """Causes of this run's failed tasks, without duplicates; empty without failed tasks."""
    ti = context["ti"]
    breadcrumbs = ti.get_task_breadcrumbs(ti.dag_id, ti.run_id)
    failed = sorted({crumb["task_id"] for crumb in breadcrumbs if crumb["state"] == "failed"} - {ti.task_id})
    causes = [text for task in failed for text in ti.xcom_pull(task_ids=[task], key=CAUSE) if text]
    # A task that failed only because an earlier one had failed pushed no cause.
    return tuple(dict.fromkeys(causes or [f"task {task} failed, see its log" for task in failed]))[:_MOST_CAUSES]


def read_ending(context: Any, *, analyzed: str) -> tuple[bool, tuple[str, ...]]:
    """Whether the task `analyzed` of this run did its work, and if not, why not."""
    ti = context["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[analyzed], run_ids=[ti.run_id])
    state = states.get(ti.run_id, {}).get(analyzed)
    # A task that a person marked as successful has no return value.
    if state == "success" and ti.xcom_pull(task_ids=analyzed) is not None:
        return True, ()
    # No earlier task is ever skipped, but ending a run by hand skips the remaining ones.
    by_hand = ("somebody ended the run",) if state in ("skipped", "success") else ()
    return False, by_hand or read_causes(context)


def write_outcome(context: Any, outcome: Outcome) -> None:
    """Pushes the gate's outcome."""
    context["ti"].xcom_push(OUTCOME, {"verdict": outcome.verdict, "reasons": list(outcome.reasons)})


def read_outcome(context: Any) -> Outcome:
    """The outcome that this run's gate pushed; `none`, with the causes, where it pushed nothing."""
    from testops_lib.run.analyze import Outcome

    pushed = context["ti"].xcom_pull(task_ids="gate", key=OUTCOME)
    return Outcome(**pushed) if pushed else Outcome(verdict="none", reasons=read_causes(context))
