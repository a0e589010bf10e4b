"""Reports of runs in an object store, by Airflow's own object storage API."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from testops_lib.errors import SettingsError
from testops_lib.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

LATEST = "latest.txt"
"""The object that names the folder of the latest run, in place of a copy, whose files would not change all at once."""


@contextmanager
def uploaded_reports(settings: Settings) -> Iterator[Settings]:
    """Settings for the stages that write reports; what they write is uploaded where TESTOPS_REPORTS_DIR is a URL.

    Nothing is uploaded when the block raises. A second upload of a run replaces the first.

    Raises:
        SettingsError: Airflow has no provider for the URL.
    """
    if "://" not in settings.reports_dir:
        yield settings
        return
    place = _place(settings.reports_dir)
    with tempfile.TemporaryDirectory(prefix="testops-reports-") as folder:
        yield msgspec.structs.replace(settings, reports_dir=folder)
        _upload(Path(folder), place)


def _place(url: str) -> ObjectStoragePath:
    from airflow.sdk import ObjectStoragePath

    try:
        place = ObjectStoragePath(url)
        place.fs  # noqa: B018 (asks for the connection)
    except (ImportError, ValueError) as error:
        raise SettingsError(
            f"{url} cannot be opened: {error}",
            where="TESTOPS_REPORTS_DIR",
            next_step="give a URL such as s3://connection@bucket/path; the image needs the provider of its scheme",
        ) from error
    return place


def _upload(folder: Path, place: ObjectStoragePath) -> None:
    """Copies the run's files; only then does `LATEST` name them, if they are the latest run's."""
    runs = [run for run in folder.iterdir() if run.name != "latest"]
    for run in runs:
        for file in sorted(run.iterdir()):
            with file.open("rb") as source, (place / run.name / file.name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
    if (folder / "latest").exists():
        (place / LATEST).write_text("".join(f"{run.name}\n" for run in runs))
