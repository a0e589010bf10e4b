"""During an upgrade, and after a rollback, parts of two versions work on one run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stack.samples import Sample
from testops_lib.bus.client import Bus
from testops_lib.run.publish import Publication
from testops_lib.store import Store
from tests import versions
from tests.paths import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.long]

PUBLISH = """
import sys, msgspec
from testops_lib import settings as configuration
from testops_lib.run.generate import generate
from testops_lib.run.publish import publish
from testops_lib.run.start import load_spec, open_run
from testops_lib.target import RunConf

run, settings = sys.argv[1], configuration.read()
open_run(run, RunConf(target="shop", operations=("GET /products*", "POST /products")), settings)
for group in load_spec(run, settings):
    generate(run, group, settings)
print(msgspec.json.encode(publish(run, settings)).decode())
"""
ANALYZE = """
import sys
from testops_lib import settings as configuration
from testops_lib.run.analyze import analyze

analyze(sys.argv[1], configuration.read())
"""
SHOW = """
import sys
from testops_lib import settings as configuration
from testops_lib.store import Store

with Store(configuration.read().need_dsn()) as store:
    print(*sorted(finding.fingerprint for finding in store.report(sys.argv[1]).findings))
"""

NOW = ROOT
"""The checkout of this version."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return versions.before(tmp_path_factory.mktemp("before"))


class Installation:
    """The parts of two versions on the same servers, each part a process."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables

    def python(self, checkout: Path, *arguments: str) -> str:
        """What `python arguments…` prints; it ends well."""
        process = versions.run(checkout, *arguments, **self.variables)
        assert process.returncode == 0, process.stderr
        return process.stdout

    def publish(self, checkout: Path, run: str) -> Publication:
        return msgspec.json.decode(self.python(checkout, "-c", PUBLISH, run).splitlines()[-1], type=Publication)

    def execute(self, checkout: Path, run: str, publication: Publication) -> None:
        for batch in (*publication.batches, *publication.last):
            self.python(checkout, "-m", "runner", "--run", run, "--plan", publication.plan, "--batch", batch)

    def findings(self, checkout: Path, run: str) -> list[str]:
        """The report of the run as that version shows it."""
        return self.python(checkout, "-c", SHOW, run).split()


@pytest.fixture
def installation(kafka: str, postgres: str, defective_shop: Sample, tmp_path: Path) -> Iterator[Installation]:
    with Bus(kafka) as bus:
        bus.create_topics(partitions=2)
    yield Installation(
        {
            "TESTOPS_DSN": postgres,
            "TESTOPS_KAFKA_BOOTSTRAP": kafka,
            "TESTOPS_REPORTS_DIR": str(tmp_path / "reports"),
            "TESTOPS_TARGETS_DIR": str(ROOT / "targets"),
            **defective_shop.variables(),
        }
    )


def test_an_older_runner_executes_what_this_version_publishes(
    installation: Installation, postgres: str, before: Path
) -> None:
    installation.python(NOW, "-m", "testops_lib.cli", "db", "upgrade")
    publication = installation.publish(NOW, "older-runner")
    installation.execute(before, "older-runner", publication)
    installation.python(NOW, "-m", "testops_lib.cli", "collect", "--run", "older-runner")
    with Store(postgres) as store:
        assert store.without_result("older-runner") == 0
        assert store.progress("older-runner").done == publication.cases > 100
    installation.python(NOW, "-c", ANALYZE, "older-runner")
    assert installation.findings(NOW, "older-runner") == installation.findings(before, "older-runner") != []


def test_an_older_collector_goes_on_while_the_schema_is_upgraded_and_newer_runners_execute(
    installation: Installation, postgres: str, before: Path
) -> None:
    installation.python(before, "-m", "testops_lib.cli", "db", "upgrade")
    publication = installation.publish(before, "older-collector")
    collector = versions.start(before, "-m", "testops_lib.cli", "collect", "--follow", **installation.variables)
    try:
        with Store(postgres) as store:
            store.upgrade()
            installation.execute(NOW, "older-collector", publication)
            deadline = time.monotonic() + 60
            while store.progress("older-collector").done < publication.cases and time.monotonic() < deadline:
                time.sleep(0.2)
            assert store.progress("older-collector").done == publication.cases > 100
    finally:
        collector.terminate()
        errors = collector.communicate(timeout=30)[1]
    assert "pauses" not in errors
    counts = installation.python(before, "-m", "testops_lib.cli", "collect", "--run", "older-collector")
    assert "no_result=0" in counts
    installation.python(before, "-c", ANALYZE, "older-collector")
    assert installation.findings(NOW, "older-collector") == installation.findings(before, "older-collector") != []
