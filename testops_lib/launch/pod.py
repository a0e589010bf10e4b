"""A batch to a pod: the manifest of a runner's pod out of a template and a target's own wishes."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from testops_lib.errors import SettingsError

CONTAINER = "runner"
"""The container that executes the batch: the first of the template."""

START_S = 600
"""What a pod may need besides its batch: to be scheduled, to fetch the image, to end."""

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


def read_template(path: Path) -> dict[str, Any]:
    """The pod that a YAML file describes.

    Raises:
        SettingsError: it cannot be read, or its first container is not the runner.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text("utf-8"))
        first = found["spec"]["containers"][0]["name"]
    except OSError as error:
        raise SettingsError(error.strerror or "cannot be read", where=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError) as error:
        raise SettingsError(f"describes no pod: {error}", where=str(path)) from error
    if first != CONTAINER:
        raise SettingsError(
            f"its first container is {first!r}", where=str(path), next_step=f"the first one must be called {CONTAINER}"
        )
    return dict(found)


def merge(base: Any, own: Any) -> Any:
    """`base` changed by `own`: mappings key by key (null takes a key away), lists of named entries name by name.

    Everything else of `own` replaces what `base` has.
    """
    if isinstance(base, Mapping) and isinstance(own, Mapping):
        merged = {**base, **{key: merge(base.get(key), value) for key, value in own.items()}}
        return {key: value for key, value in merged.items() if value is not None}
    if _are_named(base) and _are_named(own):
        changes = {entry["name"]: entry for entry in own}
        kept = [merge(entry, changes.pop(entry["name"], {})) for entry in base]
        return [*kept, *changes.values()]
    return own


def _are_named(entries: Any) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, Mapping) and "name" in entry for entry in entries)


def label(text: str) -> str:
    """`text` as a label's value: at most 63 characters; what had to change ends with a hash of the original."""
    fit = _UNFIT.sub("-", text).strip("._-")
    if fit == text and len(fit) <= 63:
        return fit
    return f"{fit[:53].strip('._-')}.{hashlib.sha256(text.encode()).hexdigest()[:9]}".lstrip(".")


def manifest(
    template: Mapping[str, Any],
    own: Mapping[str, Any],
    *,
    image: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    target: str,
    run: str,
    batch: str,
    deadline_s: float,
) -> dict[str, Any]:
    """The pod that executes one batch.

    `own` is what the target says of its pods. Variables that the template or the target set win over `environment`.
    `deadline_s` is what the runner may take: the template's `activeDeadlineSeconds`, where it has one, is raised to
    what such a pod needs; the target's own stands.
    """
    limit = template["spec"].get("activeDeadlineSeconds")
    needed = {"activeDeadlineSeconds": max(limit, math.ceil(deadline_s) + START_S)} if limit else {}
    pod: dict[str, Any] = merge(merge(template, {"spec": needed}), own)
    metadata = dict(pod.get("metadata") or {})
    metadata["name"] = re.sub(r"[^a-z0-9]+", "-", f"testops-{target}".lower())[:50].strip("-")
    labels = {"testops/target": label(target), "testops/run": label(run), "testops/batch": label(batch)}
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), "testops/run": run, "testops/batch": batch}
    first, *others = pod["spec"]["containers"]
    variables = first.get("env") or []
    given = {entry["name"] for entry in variables}
    added = [{"name": name, "value": value} for name, value in environment.items() if name not in given]
    container = {**first, "image": image, "args": list(arguments), "env": [*variables, *added]}
    return {**pod, "metadata": metadata, "spec": {**pod["spec"], "containers": [container, *others]}}
