"""A case while it runs: what it has sent and captured so far, and how it can end before its last step."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

from testops_lib.execute.created import CreatedResources
from testops_lib.execute.rights import Detour
from testops_lib.http.answer import Answer
from testops_lib.http.request import PreparedRequest
from testops_lib.model import Case, Failure, Step, VerdictName

BUDGET_SPENT: Final = "budget spent"
STOPPED: Final = "stopped"
TARGET_DOWN: Final = "target down"
CERTIFICATE_REQUIRED: Final = "no connection without the client certificate"
"""The step was to show what the target answers without credentials; without the certificate there is no answer."""

_NO_NAMES: frozenset[str] = frozenset()


class CaseEnded(Exception):
    """The case cannot go on. It gets this verdict and reason, unless a check has failed already."""

    def __init__(self, verdict: VerdictName, reason: str) -> None:
        super().__init__(reason)
        self.verdict: VerdictName = verdict
        self.reason = reason


class BrokenOnKeptConnection(CaseEnded):
    """A kept connection broke under an unsafe request, which may never have reached the application."""


class StepRecord:
    """What became of one step's request. Kept until the verdict is known, because only then evidence is due."""

    __slots__ = (
        "answer",
        "asked_to_wait",
        "body_needed",
        "elapsed_ms",
        "error",
        "fresh",
        "operation",
        "overload",
        "prepared",
        "repeated",
        "requests",
        "sent_instead",
        "status",
        "step",
        "streaming",
        "unjudged",
        "waited_s",
    )

    def __init__(self, step: Step, prepared: PreparedRequest, sent_instead: str) -> None:
        self.step, self.operation = step, step.operation
        self.prepared, self.sent_instead = prepared, sent_instead
        self.answer: Answer | None = None
        self.status = self.requests = 0
        self.elapsed_ms = 0.0
        self.error = self.repeated = self.overload = ""
        self.unjudged: tuple[str, ...] = ()
        self.fresh = self.streaming = False
        """`fresh`: its requests get connections of their own. `streaming`: the answer was a stream."""
        self.body_needed = bool(step.captures) and any(
            capture.source == "body" and not capture.optional for capture in step.captures
        )
        self.asked_to_wait = 0
        """How often the target asked to come back later."""
        self.waited_s = 0.0


class Attempt:
    """The state of one case from its first request to its verdict."""

    __slots__ = (
        "captured",
        "case",
        "cleanup_by",
        "created",
        "deadline",
        "failures",
        "foreign_captures",
        "other_requests",
        "performed",
        "records",
        "reserved",
        "restart_after",
        "stands_for",
        "started",
        "steps",
        "token",
        "withheld",
    )

    def __init__(self, case: Case, token: str, timeout_s: float, created: CreatedResources) -> None:
        self.case, self.token, self.created = case, token, created
        self.withheld = 0
        """Requests that the target's policy kept back."""
        self.captured: dict[str, Any] = {"unique": token}
        self.failures: list[Failure] = []
        self.records: list[StepRecord] = []
        self.reserved = 0
        """Requests of the budget that are set aside for it and were not sent yet."""
        self.restart_clock(timeout_s)
        self.cleanup_by = float("inf")
        self.other_requests = 0
        """Requests for this case that no step shows: logins, probes, a first try that broke."""
        self.restart_after: tuple[int, str] | None = None
        """The step that broke on a kept connection, and how: the case begins once more."""
        self.steps = deque(case.steps)
        """Those to come."""
        self.performed: list[Step] = []
        """Those that were sent, in order."""
        self.foreign_captures = _NO_NAMES
        """Names of captures whose values are resources that the case did not create."""
        self.stands_for: dict[int, Step] = {}
        """`id` of a step that was put in -> the refused step it stands for."""

    def restart_clock(self, timeout_s: float) -> None:
        """Its time begins now."""
        self.started = time.monotonic()
        self.deadline = self.started + timeout_s

    def take(self, detour: Detour) -> None:
        """Goes on by other steps."""
        self.steps = deque(detour.steps)
        self.captured.update(detour.captured)
        self.foreign_captures |= detour.foreign
        self.stands_for.update(detour.stands_for)
