"""Why a proposed case is refused."""

from __future__ import annotations

from testops_lib.model import Value


class Problem(Value, frozen=True, kw_only=True):
    """Why a proposed case is refused."""

    rule: str
    """Short and stable: what dropped cases are counted by."""
    where: str
    """`steps[1].query`."""
    message: str
    """For the model (repair) and for people."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Problems:
    """Collects the problems of one case."""

    def __init__(self, listed: list[Problem], where: str) -> None:
        self._listed, self._where = listed, where

    def at(self, place: str) -> Problems:
        """Collects into the same list, for a place within this one."""
        return Problems(self._listed, f"{self._where}.{place}")

    def add(self, rule: str, message: str) -> None:
        self._listed.append(Problem(rule=rule, where=self._where, message=message))

    def __len__(self) -> int:
        return len(self._listed)
