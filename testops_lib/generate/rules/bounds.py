"""The least and the greatest number that a schema allows."""

from __future__ import annotations

from typing import Any

from testops_lib.generate.schemas import Flat, kind_of, kinds


def lowest(flat: Flat) -> float | None:
    """The least number allowed by `minimum` or `exclusiveMinimum` (a whole step above it)."""
    bounds = [
        flat[key] + shift
        for key, shift in (("minimum", 0), ("exclusiveMinimum", _step(flat)))
        if _is_number(flat.get(key))
    ]
    return max(bounds) if bounds else None


def highest(flat: Flat) -> float | None:
    """The greatest number allowed by `maximum` or `exclusiveMaximum`."""
    bounds = [
        flat[key] - shift
        for key, shift in (("maximum", 0), ("exclusiveMaximum", _step(flat)))
        if _is_number(flat.get(key))
    ]
    return min(bounds) if bounds else None


def _step(flat: Flat) -> float:
    if _is_number(flat.get("multipleOf")):
        return float(flat["multipleOf"])
    return 1 if "number" not in kinds(flat) else 0.01


def _is_number(value: Any) -> bool:
    return kind_of(value) in ("integer", "number")


def within_bounds(flat: Flat, value: float) -> bool:
    low, high = lowest(flat), highest(flat)
    return (low is None or value >= low) and (high is None or value <= high)
