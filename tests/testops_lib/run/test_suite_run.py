"""A suite lasts: what is generated once is generated again only when something that decided it changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from testops_lib import spec as specs
from testops_lib.errors import GenerateError
from testops_lib.generate import rules, sources
from testops_lib.generate.sources import GenerationRequest, SpendingLimits
from testops_lib.model import Result
from testops_lib.report import terminal_text
from testops_lib.run.analyze import analyze
from testops_lib.run.conf import resolve
from testops_lib.run.publish import publish
from testops_lib.settings import SOURCES
from testops_lib.store import Store
from tests.generation_specs import case, step
from tests.suite_target import SuiteTarget, operation, zoo_target

pytestmark = pytest.mark.integration


@pytest.fixture
def zoo(tmp_path: Path, postgres: str) -> Iterator[SuiteTarget]:
    with zoo_target(tmp_path, postgres) as made:
        yield made


ALL = [["GET /pets", "GET /pets/{id}", "GET /shops", "GET /shops/{id}"], ["GET /toys", "GET /toys/{id}"]]


KEYS = [key for call in ALL for key in call]


def test_an_unchanged_document_makes_no_call(zoo: SuiteTarget) -> None:
    assert zoo.run() == ALL
    first = zoo.cases()
    assert len(first) == 6
    assert zoo.run() == [] and zoo.cases() == first
    with Store(zoo.dsn) as store:
        (generation,) = store.generations(zoo.name)
    assert (generation.calls, generation.cases, generation.reused) == (0, 0, 6)
    zoo.settings = msgspec.structs.replace(zoo.settings, gemini_api_key="")
    assert zoo.run() == [] and zoo.cases() == first, "what is there needs no key"


def test_a_changed_operation_alone_is_asked_for_again(zoo: SuiteTarget) -> None:
    zoo.run()
    zoo.paths["/shops/{id}"]["get"]["description"] = "A shop that is closed answers 410."
    assert zoo.run() == [["GET /shops/{id}"]]
    assert len(zoo.cases()) == 6


def test_a_case_that_calls_a_changed_operation_is_made_again(zoo: SuiteTarget) -> None:
    through = case("stateful", step("GET /pets"), step("GET /toys"), about="GET /toys") | {"name": "pets and toys"}
    zoo.proposals["GET /toys"] = [through]
    zoo.run()
    assert "pets and toys" in zoo.cases()
    zoo.paths["/pets"]["get"]["description"] = "Only the tame ones."
    assert zoo.run() == [["GET /pets", "GET /toys"]]


@pytest.mark.parametrize("change", ["model", "values", "methods", "limit"])
def test_whatever_else_decides_the_outcome_is_part_of_the_key(zoo: SuiteTarget, change: str) -> None:
    zoo.write()
    spec = specs.load(zoo.folder / "zoo.json")
    target = resolve(zoo.order, zoo.settings)
    one = spec.operations[0]
    replace = msgspec.structs.replace
    other, settings = target, zoo.settings
    if change == "model":
        settings = replace(zoo.settings, gemini_model="gemini-next")
    elif change == "values":
        other = replace(target, values={"id": (7,)})
    elif change == "methods":
        other = replace(target, policy=replace(target.policy, methods="safe"))
    else:
        other = replace(target, generate=replace(target.generate, max_cases_per_operation=3))
    ask = GenerationRequest(spec=spec, operations=(), target=target, settings=zoo.settings)
    changed = GenerationRequest(spec=spec, operations=(), target=other, settings=settings)
    before = sources.key("gemini", ask, one)
    assert before == sources.key("gemini", replace(ask, limits=SpendingLimits(tokens=1)), one)
    assert before != sources.key("gemini", changed, one)


def test_every_source_says_what_decides_its_cases() -> None:
    assert sources.NAMES == SOURCES


def test_a_removed_operation_retires_its_cases_until_it_returns(zoo: SuiteTarget) -> None:
    zoo.run()
    removed = zoo.paths.pop("/toys")
    assert zoo.run() == [] and "reads GET /toys" not in zoo.cases()
    gone = zoo.members()["reads GET /toys"]
    assert gone.status == "retired" and "does not describe" in gone.why
    zoo.paths["/toys"] = removed
    assert zoo.run() == [] and "reads GET /toys" in zoo.cases()
    with Store(zoo.dsn) as store:
        assert [change.what for change in store.changes(gone.id)] == ["active -> retired", "retired -> active"]


def test_what_a_source_makes_no_longer_is_retired(zoo: SuiteTarget) -> None:
    zoo.run()
    zoo.paths["/pets"]["get"]["description"] = "New."
    zoo.proposals["GET /pets"] = [case("positive", step("GET /pets")) | {"name": "reads all pets"}]
    zoo.run()
    assert zoo.statuses()["reads GET /pets"] == "retired" and zoo.statuses()["reads all pets"] == "active"
    assert "reads GET /pets" not in zoo.cases() and "reads all pets" in zoo.cases()


def test_cases_of_a_source_no_longer_wanted_stay_and_do_not_run(zoo: SuiteTarget) -> None:
    zoo.sources = ("rules", "gemini")
    zoo.run()
    both = zoo.cases()
    zoo.sources = ("rules",)
    assert zoo.run() == []
    assert 0 < len(zoo.cases()) < len(both) and zoo.statuses()["reads GET /pets"] == "active"
    zoo.sources = ("rules", "gemini")
    assert zoo.run() == [] and zoo.cases() == both


def test_what_a_model_repeats_of_the_rules_stays_theirs(zoo: SuiteTarget) -> None:
    zoo.sources = ("rules",)
    zoo.run()
    with Store(zoo.dsn) as store:
        alone = {case.id for case in store.load_cases(zoo.name)}
    zoo.sources = ("rules", "gemini")
    zoo.run()
    with Store(zoo.dsn) as store:
        cases = store.load_cases(zoo.name)
        made = {each.source: each for each in store.generations(zoo.name)}
        repeated = {each.current for each in store.members("zoo", source="gemini")} & alone
    assert repeated, "reading a list is the rules' first case, too"
    assert {case.origin.source for case in cases if case.id in alone} == {"rules"}
    assert made["gemini"].dropped["made by another source, too"] == len(repeated)
    assert sum(each.cases + each.reused for each in made.values()) == len(cases)


def test_rules_are_not_run_again_on_an_unchanged_document(zoo: SuiteTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.sources = ("rules",)
    zoo.run()
    first = zoo.cases()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the rules ran")

    monkeypatch.setattr(rules, "generate", never)
    zoo.run()
    assert zoo.cases() == first
    monkeypatch.undo()
    zoo.paths["/new"] = {"get": operation("get")}
    zoo.run()
    assert len(zoo.cases()) > len(first)


def test_an_operation_for_which_nothing_came_is_not_asked_for_again(zoo: SuiteTarget) -> None:
    zoo.proposals["GET /pets"] = []
    zoo.run()
    assert zoo.run() == []


def test_what_the_provider_did_not_answer_is_asked_for_in_the_next_run(zoo: SuiteTarget) -> None:
    zoo.away = {"GET /toys"}
    zoo.run()
    assert len(zoo.cases()) == 4
    zoo.away = set()
    assert zoo.run() == [["GET /toys", "GET /toys/{id}"]]
    assert len(zoo.cases()) == 6


def test_another_document_or_fewer_methods_leave_the_targets_suite_alone(zoo: SuiteTarget) -> None:
    zoo.run()
    before = zoo.members()
    other = zoo.folder / "other.json"
    other.write_text((zoo.folder / "zoo.json").read_text("utf-8").replace("/pets", "/dogs"), "utf-8")
    zoo.run(spec=str(other))
    zoo.run(methods="safe")
    assert zoo.members() == before
    with Store(zoo.dsn) as store:
        assert len(store.suites()) == 3
        assert all(name.startswith("zoo@") for name in store.suites()[1:])


def test_a_model_that_is_away_in_the_first_round_takes_nothing_from_the_other_sources(zoo: SuiteTarget) -> None:
    zoo.sources = ("gemini", "rules")
    zoo.away = set(KEYS)
    zoo.run()
    assert zoo.cases(), "those of the rules"
    with Store(zoo.dsn) as store:
        away, rules = store.generations(zoo.name)
        store.mark_published(zoo.name, [each.id for each in store.load_cases(zoo.name)], positions={0: 0})
        store.merge_results(Result(run=zoo.name, case=each.id, verdict="passed") for each in store.load_cases(zoo.name))
    assert "no call was answered" in away.failed and not rules.failed
    report = analyze(zoo.name, zoo.settings)
    assert [each.failed for each in report.generation] == [away.failed, ""]
    assert "Source gemini failed: " in terminal_text(report)
    zoo.away = set()
    assert sorted(key for call in zoo.run() for key in call) == sorted(KEYS), "it is asked again in the next run"
    zoo.sources, zoo.away = ("gemini",), set(KEYS)
    zoo.paths["/pets"]["get"]["description"] = "New."
    zoo.run()
    assert len(zoo.cases()) == 6, "what it made before runs"


def test_a_run_without_a_case_says_which_source_failed(zoo: SuiteTarget) -> None:
    zoo.away = set(KEYS)
    zoo.run()
    with pytest.raises(GenerateError, match=r"no case may run \(gemini: .*no call was answered"):
        publish(zoo.name, zoo.settings)
