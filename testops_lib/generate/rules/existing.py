"""Where things that exist already can be had from, for whoever may not make them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import structs

from testops_lib.generate.rules.drafts import Drafter
from testops_lib.generate.rules.resources import Graph, Need, Output, nameless
from testops_lib.generate.rules.words import IDENTIFYING, base_collection, collection_noun, plain, words
from testops_lib.model import Contract, Existing
from testops_lib.spec.operation import Operation, Parameter

_MOST_LISTS: Final = 3
_MOST_OUTPUTS: Final = 6


def with_existing(contracts: Mapping[str, Contract], graph: Graph, drafter: Drafter) -> dict[str, Contract]:
    """The contracts with the lists, and the stated values, that hold what their operations make."""
    finder = _Finder(graph, drafter)
    return {
        key: structs.replace(contract, existing=tuple(finder.ways(graph.by_key[key])))
        if key in graph.by_key
        else contract
        for key, contract in contracts.items()
    }


class _Finder:
    def __init__(self, graph: Graph, drafter: Drafter) -> None:
        self._graph, self._drafter = graph, drafter

    def ways(self, maker: Operation) -> Iterator[Existing]:
        """Lists first, the one beside it before others; then what the target file or the document states."""
        if maker.method != "POST" or not self._graph.creates(maker):
            return
        wanted = [output for output in self._graph.outputs(maker) if not output.many and _identifies(output)]
        wanted = wanted[:_MOST_OUTPUTS]
        if not wanted:
            return
        collection = nameless(base_collection(maker.path))
        needs = {output.path: _need(output, maker, collection) for output in wanted}
        for lister in self._graph.lists(collection, collection_noun(maker.path))[:_MOST_LISTS]:
            places = {
                path: supply.path
                for path, need in needs.items()
                if (supply := self._graph.listed(lister, need, same=_beside(lister, collection))) is not None
            }
            way = self._way(maker, lister, places) if places else None
            if way is not None:
                yield way
        if stated := self._stated(collection):
            key = next((path for path, need in needs.items() if need.attribute == "id"), next(iter(needs)))
            yield Existing(values={key: stated})

    def _way(self, maker: Operation, lister: Operation, places: dict[str, str]) -> Existing | None:
        beside = nameless(lister.path) == nameless(maker.path)
        if not beside and "{" in lister.path:
            return None
        parents = {parameter.name: "1" for parameter in lister.parameters if parameter.where == "path"}
        step = self._drafter.bare_step(lister, parents)
        if step is None:
            return None
        return Existing(operation=lister.key, request=step.request, beside=beside, places=places)

    def _stated(self, collection: str) -> Any:
        """A value for the path parameter below the collection."""
        for operation in self._graph.at(f"{collection}/{{}}"):
            for parameter in operation.parameters:
                if parameter.where == "path" and operation.path.endswith("{" + parameter.name + "}"):
                    value = self._value(parameter)
                    if value is not None:
                        return value
        return None

    def _value(self, parameter: Parameter) -> Any:
        maker = self._drafter.maker
        examples = (*maker.hint(parameter.name), *parameter.examples, *maker.examples(parameter.schema))
        return next((v for v in examples if isinstance(v, str | int) and not isinstance(v, bool)), None)


def _identifies(output: Output) -> bool:
    found = words(output.name)
    return bool(found) and found[-1] in IDENTIFYING


def _need(output: Output, maker: Operation, collection: str) -> Need:
    found = words(output.name)
    return Need(output.name, collection_noun(maker.path), plain(found[-1]), output.schema, collection)


def _beside(lister: Operation, collection: str) -> bool:
    return nameless(base_collection(lister.path)) == collection
