"""Operations -> cases."""

from __future__ import annotations

from testops_lib.model import Case, Generation, Value


class Generated(Value, frozen=True, kw_only=True):
    """What a generator gives: valid cases, most valuable first within each operation, and how they came to be."""

    cases: tuple[Case, ...]
    generation: Generation
    unfinished: tuple[str, ...] = ()
    """Operations that were asked for and not, or not wholly, answered: worth asking again."""
