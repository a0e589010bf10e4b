"""Pairwise testing: few combinations of values in which any two values of any two parameters meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def covering(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Rows of levels, one for each factor of `sizes` levels, so that any two levels of any two factors are in some row.

    Greedy, hence not the fewest; the same sizes, the same rows.
    """
    factors = range(len(sizes))
    open_pairs = {
        (a, x, b, y) for a in factors for b in factors if a < b for x in range(sizes[a]) for y in range(sizes[b])
    }
    while open_pairs:
        a, x, b, y = min(open_pairs)
        row = {a: x, b: y}
        for factor in factors:
            if factor not in row:
                row[factor] = max(
                    range(sizes[factor]),
                    key=lambda level, factor=factor: sum(  # type: ignore[misc]
                        (min((factor, level), (o, at)) + max((factor, level), (o, at))) in open_pairs
                        for o, at in row.items()
                    ),
                )
        whole = tuple(row[factor] for factor in factors)
        open_pairs -= {(a, whole[a], b, whole[b]) for a in factors for b in factors if a < b}
        yield whole
