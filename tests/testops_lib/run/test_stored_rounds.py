"""A run's further rounds up to generation: what goes back to a language model, what it costs, what stays of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from testops_lib.model import Result, StepOutcome
from testops_lib.run import stored_rounds
from testops_lib.run.conf import parse_conf
from testops_lib.run.start import open_run
from testops_lib.store import Store
from tests.asking import asked, blocks
from tests.generation_specs import case, step
from tests.suite_target import SuiteTarget, operation, zoo_target

pytestmark = pytest.mark.integration


@pytest.fixture
def zoo(tmp_path: Path, postgres: str) -> Iterator[SuiteTarget]:
    with zoo_target(tmp_path, postgres) as made:
        yield made


def executed(zoo: SuiteTarget, statuses: Mapping[str, int]) -> None:
    """The run's cases as if they had been sent: by the operation of their first step; else 200."""
    with Store(zoo.dsn) as store:
        cases = store.load_cases(zoo.name)
        store.mark_published(zoo.name, [each.id for each in cases], positions={0: 0})
        store.merge_results(
            Result(
                run=zoo.name,
                case=each.id,
                verdict="passed",
                intent=each.intent,
                operation=each.operation,
                steps=(StepOutcome(operation=each.operation, status=statuses.get(each.operation, 200), said="no"),),
            )
            for each in cases
        )


def wish(zoo: SuiteTarget, **wishes: int) -> None:
    """The last run, as if it had been opened with these wishes of `generate`."""
    with Store(zoo.dsn) as store:
        about = store.run(zoo.name)
        assert about.resolved is not None
        target = about.resolved.target
        generate = msgspec.structs.replace(target.generate, **wishes)
        resolved = msgspec.structs.replace(about.resolved, target=msgspec.structs.replace(target, generate=generate))
        store.open_run(
            zoo.name,
            about.target,
            base_url=about.base_url,
            spec_hash=about.spec_hash,
            suite=about.suite,
            resolved=resolved,
        )


def further(zoo: SuiteTarget, turn: int = 1) -> tuple[int, list[list[str]]]:
    """Cases that a round adds, and what Gemini was asked about."""
    before = len(zoo.gemini.received)
    made = stored_rounds.generate(zoo.name, turn, zoo.settings)
    return made, sorted(asked(request) for request in zoo.gemini.received[before:])


def test_a_gap_is_paid_for_once_and_its_cases_join_the_suite(zoo: SuiteTarget) -> None:
    zoo.run()
    executed(zoo, {"GET /pets/{id}": 404})
    zoo.proposals["GET /pets/{id}"] = [
        case("positive", step("GET /pets/{id}", path_params={"id": number})) | {"name": "reads GET /pets/{id}"}
        for number in ("1", "7")
    ]
    assert further(zoo) == (1, [["GET /pets/{id}"]]), "the same case again is no new one"
    (asked_about,) = json.loads(blocks(zoo.gemini.received[-1].user)[-1])["operations"]
    assert asked_about["observed"]["refusals"] == [{"status": 404, "said": "no"}]
    added = zoo.members()["reads GET /pets/{id} [2]"]
    assert added.status == "active" and "further round" in added.why

    assert zoo.run() == [], "what was made before is there"
    assert "reads GET /pets/{id}" in zoo.cases() and len(zoo.cases()) == 7
    executed(zoo, {"GET /pets/{id}": 404})
    assert further(zoo) == (0, []), "the same gap is not asked for again"
    zoo.run()
    executed(zoo, {"GET /pets/{id}": 403})
    assert further(zoo)[1] == [["GET /pets/{id}"]], "another refusal is another gap"
    zoo.run()
    executed(zoo, {})
    assert further(zoo) == (0, []), "without a gap nobody is asked"


def test_a_changed_operation_is_made_anew_and_what_rounds_added_to_it_goes(zoo: SuiteTarget) -> None:
    zoo.run()
    executed(zoo, {"GET /pets": 500})
    zoo.proposals["GET /pets"] = [
        case("stateful", step("GET /toys"), step("GET /pets"), about="GET /pets") | {"name": "both"}
    ]
    assert further(zoo)[0] == 1
    zoo.paths["/pets"]["get"] = operation("get", "New.")
    zoo.proposals["GET /pets"] = [case("positive", step("GET /pets")) | {"name": "new"}]
    zoo.run()
    assert zoo.statuses()["both"] == "retired" and zoo.statuses()["new"] == "active"


def test_a_model_that_is_away_ends_no_run(zoo: SuiteTarget) -> None:
    zoo.sources = ("gemini", "rules")
    zoo.run()
    executed(zoo, {"GET /pets": 404})
    zoo.away = {"GET /pets"}
    further(zoo)
    with Store(zoo.dsn) as store:
        notes = [note for each in store.generations(zoo.name) for note in each.notes]
    assert any("a further round could not be made" in note for note in notes)


def test_a_round_stays_within_what_the_run_may_take(zoo: SuiteTarget) -> None:
    zoo.run(max_tokens=100_000)
    executed(zoo, {"GET /pets": 404})
    with Store(zoo.dsn) as store:
        taken = sum(each.input_tokens + each.output_tokens for each in store.generations(zoo.name))
    wish(zoo, max_tokens=taken + 10)
    assert stored_rounds.generate(zoo.name, 1, zoo.settings) == 0
    with Store(zoo.dsn) as store:
        last = store.generations(zoo.name)[-1]
    assert last.calls == 0 and any("max_tokens" in note for note in last.notes)


def test_most_cases_holds_over_all_rounds(zoo: SuiteTarget) -> None:
    zoo.sources = ("rules",)
    zoo.run(max_cases=4)
    executed(zoo, dict.fromkeys(("GET /pets", "GET /pets/{id}", "GET /toys/{id}"), 404))
    with Store(zoo.dsn) as store:
        known = len(store.load_cases(zoo.name))
    wish(zoo, max_cases=known + 1)
    assert stored_rounds.generate(zoo.name, 1, zoo.settings) <= 1


def test_a_run_that_a_person_looks_at_has_no_further_rounds(zoo: SuiteTarget) -> None:
    zoo.write()
    order = parse_conf({"target": "zoo", "rounds": 2})
    assert open_run("r", order, zoo.settings) == ("rounds",)
    looked = msgspec.structs.replace(order, review="new")
    assert open_run("r", looked, zoo.settings) == ("new",)
    assert stored_rounds.find_gaps("r", 1, zoo.settings) == 0
    assert open_run("r", msgspec.structs.replace(order, rounds=0), zoo.settings) == ()
