"""Each source of cases through every stage of a run, on real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from stack.samples import Sample
from testops_lib.run.analyze import gate
from testops_lib.settings import SOURCES, Settings
from testops_lib.store import Store
from testops_lib.target import RunConf
from tests import llm_server as server
from tests.asking import asked
from tests.generation_specs import case, step
from tests.llm_server import ModelServer, Received, Reply
from tests.whole_run import executed, prepared

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

MODELS = ("gemini", "openai")
LISTS = ("GET /categories", "GET /products")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    sample = Sample("shop", tmp_path_factory.mktemp("shop"), defects="none")
    sample.start()
    yield sample
    sample.stop()


def answer(request: Received) -> Reply:
    return server.cases(*(case("positive", step(key)) | {"name": f"asks {key}"} for key in asked(request)))


def recording(url: str) -> str:
    """A HAR file, as a browser's network panel saves one."""
    entries = [
        {
            "startedDateTime": "2026-01-01T12:00:00Z",
            "time": 1,
            "request": {"method": "GET", "url": url + key.partition(" ")[2], "headers": [], "queryString": []},
            "response": {"status": 200, "headers": [], "content": {"mimeType": "application/json"}},
        }
        for key in LISTS
    ]
    return json.dumps({"log": {"version": "1.2", "creator": {"name": "b", "version": "1"}, "entries": entries}})


@pytest.mark.parametrize("source", SOURCES)
def test_cases_of_every_source_go_from_document_to_verdict(
    source: str, kafka: str, postgres: str, shop: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepared(
        monkeypatch, kafka=kafka, postgres=postgres, shop=shop, reports=tmp_path / "reports", targets=tmp_path
    )
    (tmp_path / "recorded.har").write_text(recording(shop.url), "utf-8")
    described = {
        "spec": "${TESTOPS_SHOP_URL}/openapi.json",
        "base_url": "${TESTOPS_SHOP_URL}",
        "auth": [{"name": "staff", "bearer": "${TESTOPS_SHOP_ADMIN_TOKEN}"}],
        "policy": {"allow_private": True},
        "generate": {"sources": [source], "imports": ["recorded.har"]},
        "operations": {"include": LISTS},
    }
    (tmp_path / "lists.yaml").write_text(json.dumps(described), "utf-8")
    run, order = f"{source}-{tmp_path.name}", RunConf(target="lists")
    with ExitStack() as stack:
        if source in MODELS:
            settings = reached(settings, stack.enter_context(ModelServer(answer, source)), source)  # type: ignore[arg-type]
        report = executed(run, order, settings)

    (generation,) = report.generation
    assert generation.source == source and generation.cases == report.totals.cases > 0
    assert (generation.calls > 0, bool(generation.money)) == (source in MODELS, source in MODELS)
    assert {key for key, each in report.operations.items() if each.success_seen} >= set(LISTS)
    assert [finding for finding in report.findings if not finding.advisory] == [], "nothing is wrong with this shop"
    assert gate(run, settings).verdict == "passed"
    with Store(postgres) as store:
        assert {result.origin for result in store.results(run)} == {source}
        assert {member.source for member in store.members("lists")} == {source}


def reached(settings: Settings, model: ModelServer, source: str) -> Settings:
    """With the model at its address."""
    if source == "gemini":
        return msgspec.structs.replace(settings, gemini_api_key="k" * 39, gemini_base_url=model.url)
    return msgspec.structs.replace(settings, openai_api_key="k" * 39, openai_base_url=f"{model.url}/v1")
