"""The attempts of a case -> the one result that counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import msgspec

from testops_lib.model import Result


def settle(attempts: Iterable[Result]) -> Iterator[Result]:
    """One result for each case; `attempts` come case by case, those of a case in their order.

    A failure stays, whatever comes later: a later pass is noted on it (`passed_again`). An errored or skipped attempt
    gives way to any verdict.
    """
    for _, of_case in groupby(attempts, key=lambda result: result.case):
        results = list(of_case)
        failed = [result for result in results if result.verdict == "failed"]
        passed = [result for result in results if result.verdict == "passed"]
        if not failed:
            yield (passed or results)[-1]
        else:
            last_failed = failed[-1]
            later = max((result.attempt for result in passed if result.attempt > last_failed.attempt), default=0)
            yield msgspec.structs.replace(last_failed, passed_again=later)
