"""A target in a folder: an OpenAPI document that tests change, and a Gemini that answers what it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testops_lib.run.conf import parse_conf
from testops_lib.run.generate import generate
from testops_lib.run.start import load_spec, open_run
from testops_lib.settings import Settings
from testops_lib.store import Store
from testops_lib.suite import Member
from testops_lib.target import RunConf
from tests import llm_server as server
from tests.asking import asked
from tests.generation_specs import case, step
from tests.llm_server import ModelServer, Received, Reply

KEY = "AIzaTestKeyTestKeyTestKeyTestKeyTestKey9"


def operation(method: str, text: str = "", *, item: bool = False) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": text,
        "responses": {"200": {"description": "", "content": {"application/json": {"schema": {"type": "object"}}}}},
    }
    if item:
        described["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}]
    return described


@dataclass
class SuiteTarget:
    """Its runs go as far as generation: nothing is sent anywhere."""

    folder: Path
    dsn: str
    gemini: ModelServer
    sources: tuple[str, ...] = ("gemini",)
    review: str = "never"
    promote_after: int = 0
    proposals: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Operation -> what Gemini proposes; else one case that calls it."""
    away: set[str] = field(default_factory=set)
    """Operations about which Gemini gives no answer."""
    runs: int = 0

    def __post_init__(self) -> None:
        self.paths: dict[str, dict[str, Any]] = {
            f"/{name}{'/{id}' if item else ''}": {"get": operation("get", item=item)}
            for name in ("pets", "shops", "toys")
            for item in (False, True)
        }
        self.settings = Settings(
            dsn=self.dsn,
            targets_dir=self.folder,
            specs_dir=self.folder,
            gemini_api_key=KEY,
            gemini_base_url=self.gemini.url,
            reports_dir=str(self.folder / "reports"),
            adhoc="private",
        )

    def answer(self, request: Received) -> Reply:
        """The server's script."""
        if self.away & set(asked(request)):
            return server.error(503, "UNAVAILABLE", "later", retry_s=999)
        proposed = []
        for key in asked(request):
            call = step(key, path_params={"id": "1"}) if "{id}" in key else step(key)
            proposed += self.proposals.get(key, [case("positive", call) | {"name": f"reads {key}"}])
        return server.cases(*proposed)

    def write(self) -> None:
        document = {
            "openapi": "3.1.0",
            "info": {"title": "Zoo", "version": "1"},
            "paths": self.paths,
            "servers": [{"url": "http://127.0.0.1:9"}],
        }
        (self.folder / "zoo.json").write_text(json.dumps(document), "utf-8")
        described = {
            "spec": "zoo.json",
            "base_url": "http://127.0.0.1:9",
            "policy": {"allow_private": True},
            "generate": {
                "sources": list(self.sources),
                "review": self.review,
                "promote_after": self.promote_after,
            },
        }
        (self.folder / "zoo.yaml").write_text(json.dumps(described), "utf-8")

    def run(self, **wishes: Any) -> list[list[str]]:
        """A run up to generation; the operations of each call to Gemini, in order."""
        self.write()
        self.runs += 1
        before = len(self.gemini.received)
        order = parse_conf({"target": "zoo", **wishes})
        open_run(self.name, order, self.settings)
        for group in load_spec(self.name, self.settings):
            generate(self.name, group, self.settings)
        return sorted(asked(request) for request in self.gemini.received[before:])

    @property
    def name(self) -> str:
        return f"run-{self.runs}"

    @property
    def order(self) -> RunConf:
        return RunConf(target="zoo")

    def cases(self) -> list[str]:
        """Names of the cases that the last run takes, in order."""
        with Store(self.dsn) as store:
            held = store.held(self.name)
            return [case.name for case in store.load_cases(self.name) if case.id not in held]

    def members(self, suite: str = "zoo") -> dict[str, Member]:
        """By key."""
        with Store(self.dsn) as store:
            return {member.key: member for member in store.members(suite)}

    def statuses(self) -> dict[str, str]:
        return {key: member.status for key, member in self.members().items()}


@contextmanager
def zoo_target(folder: Path, dsn: str) -> Iterator[SuiteTarget]:
    """The target `zoo`, and its Gemini on 127.0.0.1."""
    with Store(dsn) as store:
        store.upgrade()
    made: list[SuiteTarget] = []
    with ModelServer(lambda request: made[0].answer(request)) as gemini:
        made.append(SuiteTarget(folder, dsn, gemini))
        yield made[0]
