"""YAML text of limited size and depth -> plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from testops_lib.errors import TargetError

_MAX_DEPTH = 100


def read_yaml(path: Path) -> Any:
    try:
        if path.stat().st_size > 1_000_000:
            raise TargetError("is larger than 1 MB", where=str(path), next_step="is it the right file?")
        return _parse(path.read_text("utf-8"))
    except OSError as error:
        raise TargetError(error.strerror or "cannot be read", where=str(path), next_step="check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise TargetError(
            f"is no YAML: {getattr(error, 'problem', error)}", where=place, next_step="correct it"
        ) from error


def _parse(text: str) -> Any:
    """The value of YAML text.

    libyaml takes a tenth of the time of PyYAML's own reader, which matters since DAG files read targets. It builds
    values by recursion in C and would crash the process on deep nesting, so the depth is checked first.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"more than {_MAX_DEPTH} levels")
    return yaml.load(text, Loader=yaml.CSafeLoader)
