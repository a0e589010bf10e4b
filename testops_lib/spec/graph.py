"""Strongly connected parts of a graph of names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping


def components(edges: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The parts, each sorted; a part comes after all those it leads to (Tarjan 1972, without recursion).

    Names that `edges` has no entry for are left out.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    held: set[str] = set()
    stack: list[str] = []
    parts: list[list[str]] = []
    for start in edges:
        if start in index:
            continue
        work: list[tuple[str, Iterator[str]]] = [(start, iter(edges[start]))]
        index[start] = low[start] = len(index)
        stack.append(start)
        held.add(start)
        while work:
            name, rest = work[-1]
            for to in rest:
                if to not in edges:
                    continue
                if to not in index:
                    index[to] = low[to] = len(index)
                    stack.append(to)
                    held.add(to)
                    work.append((to, iter(edges[to])))
                    break
                if to in held:
                    low[name] = min(low[name], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    part: list[str] = []
                    while not part or part[-1] != name:
                        part.append(stack.pop())
                        held.discard(part[-1])
                    parts.append(sorted(part))
    return parts
