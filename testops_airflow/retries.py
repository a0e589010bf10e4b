"""When a task is tried again: the same in every DAG of ours."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.retry_policy import RetryDecision
from airflow.sdk.exceptions import AirflowException

from testops_airflow.outcome import write_cause
from testops_lib.errors import (
    AddressError,
    CaseError,
    ExpiredBatchError,
    GenerateError,
    SettingsError,
    SpecAwayError,
    SpecError,
    TargetError,
    TestOpsError,
)

log = logging.getLogger(__name__)

WRONG = (TargetError, SettingsError, CaseError, AddressError, GenerateError, ExpiredBatchError)
"""A wrong order or target is wrong again five seconds later; a server that is away may be back."""

DEFECTS = (TypeError, ValueError, LookupError, AttributeError, AssertionError)
"""What a defect in our code raises: once more, in case it came from what another task was doing, and no oftener."""


def is_worth_one_retry(exception: BaseException) -> bool:
    """Whether it would be the same a third time: a defect, or a document that was read and is wrong."""
    is_wrong_document = isinstance(exception, SpecError) and not isinstance(exception, SpecAwayError)
    return is_wrong_document or isinstance(exception, DEFECTS)


class Retries(ExceptionRetryPolicy):
    """Decides by the error, and keeps the error's text when it is the task's last one."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """As Airflow asks, in the task's own process, before it says that the task failed."""
        decision = super().evaluate(exception, try_number, max_tries, context)
        if is_worth_one_retry(exception) and try_number > 1:
            decision = RetryDecision.fail("it failed in the same way before")
        if context is not None and (decision.action is RetryAction.FAIL or try_number > max_tries):
            known = isinstance(exception, (TestOpsError, AirflowException))
            text = str(exception) if known else f"{type(exception).__name__}, see the task's log"
            try:
                write_cause(context, f"{context['ti'].task_id}: {text}")
            except Exception as failed:  # what Airflow would take for a policy that cannot decide
                log.warning("why the task failed could not be written down: %s", failed)
        return decision


POLICY = Retries(
    rules=[
        RetryRule(exception=list(WRONG), action=RetryAction.FAIL, reason="trying again would not help"),
    ]
)

# Airflow waits up to twice as long as the multiplier says: five retries last 135 to 190 s, which is longer than an API
# server on a busy machine takes to start (115 s).
DEFAULT_ARGS: dict[str, Any] = {
    "retries": 5,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(seconds=60),
    "retry_policy": POLICY,
    "execution_timeout": timedelta(minutes=30),
}
