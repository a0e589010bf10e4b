"""Reports in an object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from testops_lib import settings as configuration
from testops_lib.errors import SettingsError
from tests import s3_server
from tests.airflow_python import printed
from tests.warm_python import WarmPython

pytestmark = pytest.mark.airflow

UPLOAD = """
import json, sys
from pathlib import Path
from testops_airflow.reports import uploaded_reports
from testops_lib import settings as configuration
outcome = []
for run, latest, fails in json.loads(sys.argv[1]):
    try:
        with uploaded_reports(configuration.read()) as settings:
            for name in [run, *(["latest"] if latest else [])]:
                folder = settings.reports_folder() / name
                folder.mkdir()
                (folder / "report.json").write_text(f"report of {run}")
            assert not fails, "the stage failed"
    except Exception as error:
        outcome.append(f"{type(error).__name__}: {error}")
    else:
        outcome.append(Path(settings.reports_dir).exists())
print(json.dumps(outcome))
"""


def test_reports_are_uploaded_and_latest_names_the_latest_runs_folder(airflow: WarmPython) -> None:
    with s3_server.serving() as s3:
        variables = {"TESTOPS_REPORTS_DIR": "s3://store@reports/testops", "AIRFLOW_CONN_STORE": s3.connection}
        orders = '[["first", true, false], ["second", true, false], ["rerun", false, false], ["third", true, true]]'
        outcome = printed(airflow, UPLOAD, orders, **variables)
        assert outcome == [False, False, False, "AssertionError: the stage failed"], "local copies are gone"
        for run in ("first", "second", "rerun"):
            assert s3.get(f"testops/{run}/report.json") == f"report of {run}".encode()
        assert s3.get("testops/latest.txt") == b"second\n"
        with pytest.raises(s3.client.exceptions.NoSuchKey):
            s3.get("testops/third/report.json")


def test_a_folder_is_written_to_as_it_is(airflow: WarmPython, tmp_path: Path) -> None:
    assert printed(airflow, UPLOAD, '[["first", true, false]]', TESTOPS_REPORTS_DIR=str(tmp_path)) == [True]
    assert {path.name for path in tmp_path.iterdir()} == {"first", "latest"}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("gs://store@reports/testops", "TESTOPS_REPORTS_DIR: gs://store@reports/testops cannot be opened"),
        ("nosuch://reports", "needs the provider of its scheme"),
    ],
)
def test_a_url_without_a_provider_is_refused_before_the_stage_begins(airflow: WarmPython, url: str, text: str) -> None:
    [outcome] = printed(airflow, UPLOAD, '[["first", true, true]]', TESTOPS_REPORTS_DIR=url)
    assert outcome.startswith("SettingsError") and text in outcome


def test_outside_of_airflow_a_url_is_refused() -> None:
    assert configuration.read({}).reports_folder() is None
    settings = configuration.read({"TESTOPS_REPORTS_DIR": "s3://store@reports/testops"})
    with pytest.raises(SettingsError, match="only the tasks of Airflow write to"):
        settings.reports_folder()
