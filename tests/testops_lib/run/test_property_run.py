"""Random cases through every stage of a run, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from stack.samples import Sample
from testops_lib.cli.suite import cases
from testops_lib.run.analyze import gate
from testops_lib.store import Store
from testops_lib.suite import REGRESSION, Member
from testops_lib.target import RunConf
from tests.paths import ROOT
from tests.whole_run import executed, prepared

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

OPERATIONS = ("POST /categories", "POST /subscriptions", "GET /customers/*")
"""The last has no defect here."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Sample]:
    sample = Sample("shop", tmp_path / "shop", defects="create-answers-200,malformed-crash")
    sample.start()
    yield sample
    sample.stop()


def test_random_cases_go_from_document_to_verdict_and_find_what_is_wrong(
    kafka: str, postgres: str, shop: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepared(
        monkeypatch, kafka=kafka, postgres=postgres, shop=shop, reports=tmp_path / "reports", targets=ROOT / "targets"
    )
    order = RunConf(target="shop", operations=OPERATIONS, sources=("property",))
    run = f"property-{tmp_path.name}"

    report = executed(run, order, settings)

    assert report.totals.cases >= 20
    assert [each.source for each in report.generation] == ["property"]
    assert {(each.operation, each.check) for each in report.findings} == {
        ("POST /categories", "status_code_conformance"),
        ("POST /subscriptions", "not_a_server_error"),
    }
    assert gate(run, settings).verdict == "failed"

    # What found something stays, as small as it can be, when the random cases become others.
    with Store(postgres) as store:
        kept = {each.id: each for each in store.members("shop", source="property") if each.key.startswith(REGRESSION)}
        assert {each.operation for each in kept.values()} == {"POST /categories", "POST /subscriptions"}
        size = {each.id: request_size(store, each) for each in kept.values()}
    done = CliRunner().invoke(cases, ["shrink", run, "--who", "ann"], catch_exceptions=False)
    assert "2 regressions smaller now" in done.output, done.output
    with Store(postgres) as store:
        smaller = [each for each in store.members("shop", source="property") if each.id in kept]
        assert all(request_size(store, each) <= size[each.id] for each in smaller)
        assert any(request_size(store, each) < size[each.id] for each in smaller)
        assert [change.what for change in store.changes(smaller[0].id)] == ["shrunk"]
    other = tmp_path / "targets"
    other.mkdir()
    text = (ROOT / "targets/shop.yaml").read_text("utf-8")
    assert "generate: {" in text
    (other / "shop.yaml").write_text(text.replace("generate: {", "generate: {property: {seed: 77}, ", 1), "utf-8")
    settings = msgspec.structs.replace(settings, targets_dir=other)
    again = executed(f"{run}-again", order, settings)
    with Store(postgres) as store:
        assert {each.current for each in smaller} <= {result.case for result in store.results(again.run)}
        first = {case.id for case in store.load_cases(run)}
        assert len(first & {case.id for case in store.load_cases(again.run)}) < len(first) / 2, "other random cases"
    assert {each.fingerprint for each in report.findings} <= {each.fingerprint for each in again.findings}


def request_size(store: Store, member: Member) -> int:
    return len(msgspec.json.encode(store.cases([member.current])[member.current].steps))
