from __future__ import annotations

import pytest

from testops_lib import settings
from testops_lib.errors import SettingsError
from tests.paths import ROOT


def test_an_empty_environment_gives_the_defaults() -> None:
    read = settings.read({})
    assert (read.launcher, read.kafka_partitions, read.dsn) == ("process", 4, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TESTOPS_KAFKA_PARTITIONS", "none"),
        ("TESTOPS_KAFKA_PARTITIONS", "0"),
        ("TESTOPS_KAFKA_OPTIONS", "{"),
        ("TESTOPS_KAFKA_OPTIONS", "[1]"),
        ("TESTOPS_LAUNCHER", "magic"),
        ("TESTOPS_ADHOC", "yes"),
    ],
)
def test_an_unusable_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        settings.read({name: value})


def test_what_is_missing_is_named_when_it_is_needed() -> None:
    with pytest.raises(SettingsError, match="TESTOPS_DSN"):
        settings.read({}).need_dsn()


def test_secrets_do_not_show_in_a_settings_repr() -> None:
    read = settings.read({"TESTOPS_DSN": "postgresql://u:hunter2@h/d", "GEMINI_API_KEY": "AIza-secret"})
    assert "hunter2" not in repr(read) and "AIza" not in repr(read)


def test_every_setting_is_documented_with_its_meaning() -> None:
    page = (ROOT / "docs/settings.md").read_text("utf-8")
    rows = [f"| `{name}` | {meaning} |" for name, meaning in settings.DOCUMENTATION.items()]
    assert [row for row in rows if row not in page] == []
