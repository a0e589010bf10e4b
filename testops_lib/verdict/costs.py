"""What language models cost in a run: by source, against the findings confirmed, and by operation."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from testops_lib.cost import total
from testops_lib.model import Cost, Finding, Generation, OperationReport, SourceCost


def source_costs(generations: Collection[Generation], findings: Collection[Finding]) -> dict[str, SourceCost]:
    """By source, those that called a language model: what they cost, whole and for each confirmed finding."""
    spent_by_source: dict[str, list[Cost]] = {}
    for generation in generations:
        if generation.calls:
            spent = Cost(
                calls=generation.calls,
                input_tokens=generation.input_tokens,
                output_tokens=generation.output_tokens,
                cached_tokens=generation.cached_tokens,
                money=generation.money,
            )
            spent_by_source.setdefault(generation.source, []).append(spent)
    costs: dict[str, SourceCost] = {}
    for source, spent_costs in spent_by_source.items():
        whole = total(spent_costs)
        confirmed = sum(
            finding.state in ("new", "known") and not finding.advisory and finding.example.source == source
            for finding in findings
        )
        tokens = whole.input_tokens + whole.output_tokens
        costs[source] = SourceCost(
            calls=whole.calls,
            input_tokens=whole.input_tokens,
            output_tokens=whole.output_tokens,
            cached_tokens=whole.cached_tokens,
            money=whole.money,
            findings=confirmed,
            money_per_finding=whole.money / confirmed if confirmed and whole.money is not None else None,
            tokens_per_finding=tokens / confirmed if confirmed else None,
        )
    return costs


def with_costs(
    operations: Mapping[str, OperationReport], generations: Collection[Generation]
) -> dict[str, OperationReport]:
    """The operations, each with its share of what the models cost."""
    shares: dict[str, list[Cost]] = {}
    for generation in generations:
        for key, cost in generation.operations.items():
            shares.setdefault(key, []).append(cost)
    return {
        key: msgspec.structs.replace(report, cost=total(shares[key])) if key in shares else report
        for key, report in operations.items()
    }
