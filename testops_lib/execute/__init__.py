"""Cases -> results: the request engine. Exact bytes on the wire, within the target's policy."""

from testops_lib.execute.engine import BUDGET_SPENT, STOPPED, TARGET_DOWN, Engine, Judging, run

__all__ = ["BUDGET_SPENT", "STOPPED", "TARGET_DOWN", "Engine", "Judging", "run"]
