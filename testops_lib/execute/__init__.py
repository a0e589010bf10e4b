"""Cases -> results: the request engine. Exact bytes on the wire, within the target's policy."""

from testops_lib.execute.attempt import BUDGET_SPENT, STOPPED, TARGET_DOWN
from testops_lib.execute.case_runner import Judging
from testops_lib.execute.engine import Engine, run

__all__ = ["BUDGET_SPENT", "STOPPED", "TARGET_DOWN", "Engine", "Judging", "run"]
