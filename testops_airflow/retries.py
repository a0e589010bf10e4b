"""When tasks are retried: one policy for all our DAGs."""

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
    UnknownRunError,
)

log = logging.getLogger(__name__)

WRONG = (TargetError, SettingsError, CaseError, AddressError, GenerateError, ExpiredBatchError, UnknownRunError)
"""Errors that a retry cannot mend: a wrong conf or target is still wrong five seconds later."""

DEFECTS = (TypeError, ValueError, LookupError, AttributeError, AssertionError)
"""Errors that a defect in our code raises: retried once, in case another task's work was the cause."""


def is_worth_one_retry(exception: BaseException) -> bool:
    """Whether a second retry would change nothing: after a defect, or a document that was read and is wrong."""
    is_wrong_document = isinstance(exception, SpecError) and not isinstance(exception, SpecAwayError)
    return is_wrong_document or isinstance(exception, DEFECTS)


class Retries(ExceptionRetryPolicy):
    """Decides by the error, and pushes the text of the task's final one as its cause."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """The decision on an error. Airflow asks in the task's process, before it marks the task as failed."""
        decision = super().evaluate(exception, try_number, max_tries, context)
        if is_worth_one_retry(exception) and try_number > 1:
            decision = RetryDecision.fail("it failed in the same way before")
        if context is not None and (decision.action is RetryAction.FAIL or try_number > max_tries):
            is_ours = isinstance(exception, (TestOpsError, AirflowException))
            text = str(exception) if is_ours else f"{type(exception).__name__}, see the task's log"
            try:
                write_cause(context, f"{context['ti'].task_id}: {text}")
            except Exception as failure:  # Airflow would ignore the decision of a policy that raises
                log.warning("the cause of the task's failure could not be pushed: %s", failure)
        return decision


POLICY = Retries(
    rules=[
        RetryRule(exception=list(WRONG), action=RetryAction.FAIL, reason="a retry would not help"),
    ]
)

# Airflow waits up to twice as long as the multiplier says: five retries take 135 to 190 s, longer than the start of an
# API server on a busy machine (115 s).
DEFAULT_ARGS: dict[str, Any] = {
    "retries": 5,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(seconds=60),
    "retry_policy": POLICY,
    "execution_timeout": timedelta(minutes=30),
}
