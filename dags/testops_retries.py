"""When a task is tried again: the same in every DAG of ours."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from testops_lib.errors import (
    AddressError,
    CaseError,
    ExpiredBatchError,
    GenerateError,
    SettingsError,
    TargetError,
)

FINAL = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=error, action=RetryAction.FAIL, reason="trying again would not help")
        for error in (TargetError, SettingsError, CaseError, AddressError, GenerateError, ExpiredBatchError)
    ]
)
"""A wrong order or target is wrong again five seconds later; a server that is away may be back."""

DEFAULT_ARGS: dict[str, Any] = {
    "retries": 1,
    "retry_delay": timedelta(seconds=5),
    "retry_policy": FINAL,
    "execution_timeout": timedelta(minutes=30),
}
