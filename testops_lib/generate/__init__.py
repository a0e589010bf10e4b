"""Operations -> cases."""

from __future__ import annotations

from testops_lib.model import Case, Generation, Value


class Generated(Value, frozen=True, kw_only=True):
    """What a generator gives: valid cases, most valuable first within each operation, and how they came to be."""

    cases: tuple[Case, ...]
    generation: Generation
