"""The results database is restored from a backup that was taken during a run: Kafka still has what came after it."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stack.postgres import Postgres, programs
from stack.samples import Sample
from testops_lib.bus.client import Bus
from testops_lib.errors import UnknownRunError
from testops_lib.run.collect import Counts, collect
from testops_lib.store import Store
from tests.runner.test_runner import case, outcome, plan, publish, runner
from tests.testops_lib.run.test_collect import eventually, following, write

pytestmark = [pytest.mark.integration, pytest.mark.long]


def run_program(name: str, *arguments: str) -> None:
    ended = subprocess.run([programs() / name, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr


def back_up(dsn: str, to: Path) -> None:
    run_program("pg_dump", "--format=custom", "--schema=testops", f"--file={to}", dsn)


def restore(server: Postgres, dsn: str, dump: Path) -> None:
    """Into a new database in place of the old one."""
    name = urlsplit(dsn).path.removeprefix("/")
    server.drop_database(name)
    server.create_database(name)
    run_program("pg_restore", "--exit-on-error", "--single-transaction", f"--dbname={dsn}", str(dump))


def test_a_restored_database_gets_the_later_results_again_from_kafka(
    kafka: str, postgres_server: Postgres, postgres: str, store: Store, sound_shop: Sample, tmp_path: Path
) -> None:
    dump = tmp_path / "testops.dump"
    with Bus(kafka, timeout_s=30) as bus:
        bus.create_topics(partitions=2)
        cases = [case(number) for number in range(150)]
        at, batches = publish(bus, store, "restored", plan(sound_shop.url, requests_per_second=50), cases)
        with following(bus, postgres):
            for batch in batches:
                process = runner(kafka, "--run", "restored", "--plan", str(at), "--batch", str(batch))
                if batch == batches[0]:
                    eventually(lambda: store.progress("restored").done >= 20)
                    back_up(postgres, dump)
                assert outcome(process)[0] == 0
            later_at, later_batches = publish(bus, store, "later", plan(sound_shop.url), cases[:10])
            for batch in later_batches:
                outcome(runner(kafka, "--run", "later", "--plan", str(later_at), "--batch", str(batch)))
            eventually(lambda: store.progress("restored").done == 150)
            before = {result.case: result for result in store.attempts("restored")}
            store.close()

            restore(postgres_server, postgres, dump)
            # Nobody has told the collector that follows: with the next result it notices that its database went away.
            store.open_run("next", "shop")
            write(bus, ["a case"], run="next")
            eventually(lambda: store.progress("restored").done == 150)
        restore(postgres_server, postgres, dump)
        with Store(postgres) as restored:
            assert 20 <= restored.progress("restored").done < 150, "the backup is of the middle of the run"
            assert collect(bus, restored, "restored") == Counts(published=150, stored=150, no_result=0)
            attempts = list(restored.attempts("restored"))
            assert Counter(result.case for result in attempts) == dict.fromkeys(before, 1)
            assert {result.case: result for result in attempts} == before

            with pytest.raises(UnknownRunError):
                collect(bus, restored, "later")
            later_at, later_batches = publish(bus, restored, "later", plan(sound_shop.url), cases[:10])
            for batch in later_batches:
                outcome(runner(kafka, "--run", "later", "--plan", str(later_at), "--batch", str(batch)))
            assert collect(bus, restored, "later") == Counts(published=10, stored=10, no_result=0)
            assert len(list(restored.attempts("later"))) == 10
