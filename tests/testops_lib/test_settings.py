from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
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


def test_the_page_of_settings_shows_each_variable_with_its_default_and_meaning() -> None:
    page = (ROOT / "docs/settings.md").read_text("utf-8")
    rows = [
        f"| `{name}` | {f'`{variable.default}`' if variable.default else ''} | {variable.meaning} |"
        for name, variable in settings.VARIABLES.items()
    ]
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


def test_each_field_is_filled_by_its_variable() -> None:
    texts = {name: _text_of(variable) for name, variable in settings.VARIABLES.items()}
    read = settings.read(texts)
    for field in msgspec.structs.fields(settings.Settings):
        variable = settings.VARIABLES[field.encode_name]
        assert getattr(read, field.name) == variable.parse(texts[field.encode_name]) != variable.default, field.name


def _text_of(variable: settings.Variable) -> str:
    """A text other than the default that the variable accepts."""
    for text in ("977", '{"security.protocol": "SSL"}', settings.LAUNCHERS[-1], settings.ADHOC[-1]):
        with suppress(ValueError):
            if variable.parse(text) != variable.default:
                return text
    raise AssertionError(variable)


def test_documents_lie_beside_the_targets_by_default() -> None:
    assert settings.read({}).specs_dir == settings.read({}).targets_dir
    assert settings.read({"TESTOPS_TARGETS_DIR": "apis"}).specs_dir == Path("apis")
    assert settings.read({"TESTOPS_TARGETS_DIR": "apis", "TESTOPS_SPECS_DIR": "specs"}).specs_dir == Path("specs")
