"""The manifest of a pod that executes one batch, from a template and what the target's file says of pods."""

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
"""What a pod may need besides its batch: to be scheduled, to pull the image, to end."""

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


def read_template(path: Path) -> dict[str, Any]:
    """The pod that a YAML file describes.

    Raises:
        SettingsError: it cannot be read, or its first container is not the runner.
    """
    import yaml

    try:
        template = yaml.safe_load(path.read_text("utf-8"))
        first = template["spec"]["containers"][0]["name"]
    except OSError as error:
        raise SettingsError(error.strerror or "cannot be read", where=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError) as error:
        raise SettingsError(f"describes no pod: {error}", where=str(path)) from error
    if first != CONTAINER:
        raise SettingsError(
            f"its first container is {first!r}", where=str(path), next_step=f"the first one must be called {CONTAINER}"
        )
    return dict(template)


def merge(base: Any, changes: Any) -> Any:
    """`base` with `changes`: mappings key by key (null removes a key), lists of named entries name by name.

    Any other value in `changes` replaces the one in `base`.
    """
    if isinstance(base, Mapping) and isinstance(changes, Mapping):
        merged = {**base, **{key: merge(base.get(key), value) for key, value in changes.items()}}
        return {key: value for key, value in merged.items() if value is not None}
    if _are_named(base) and _are_named(changes):
        new = {entry["name"]: entry for entry in changes}
        kept = [merge(entry, new.pop(entry["name"], {})) for entry in base]
        return [*kept, *new.values()]
    return changes


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
    target_pod: Mapping[str, Any],
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

    `target_pod` is what the target's file says of pods. Variables that it or the template sets win over `environment`.
    `deadline_s` is how long the runner may take: where the template has `activeDeadlineSeconds`, it is raised to what
    such a pod needs; the target file's value stays.
    """
    limit = template["spec"].get("activeDeadlineSeconds")
    needed = {"activeDeadlineSeconds": max(limit, math.ceil(deadline_s) + START_S)} if limit else {}
    pod: dict[str, Any] = merge(merge(template, {"spec": needed}), target_pod)
    metadata = dict(pod.get("metadata") or {})
    metadata["name"] = re.sub(r"[^a-z0-9]+", "-", f"testops-{target}".lower())[:50].strip("-")
    labels = {"testops/target": label(target), "testops/run": label(run), "testops/batch": label(batch)}
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), "testops/run": run, "testops/batch": batch}
    first, *others = pod["spec"]["containers"]
    variables = first.get("env") or []
    named = {entry["name"] for entry in variables}
    added = [{"name": name, "value": value} for name, value in environment.items() if name not in named]
    container = {**first, "image": image, "args": list(arguments), "env": [*variables, *added]}
    return {**pod, "metadata": metadata, "spec": {**pod["spec"], "containers": [container, *others]}}
