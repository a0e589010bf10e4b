"""Target files -> targets: the registry of APIs under test, reviewed in git."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from testops_lib.errors import TargetError
from testops_lib.http.address import base_url_fault, is_url
from testops_lib.model import CHECKS, GateRules, Policy, Tls, Trace
from testops_lib.settings import SOURCES
from testops_lib.target.authentication import identities
from testops_lib.target.definition import Described, Expected, Generate, Notify, PropertyBased, Scope, Target
from testops_lib.target.document import read_yaml
from testops_lib.target.references import has_reference

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_CRON = re.compile(
    r"@(?:hourly|daily|midnight|weekly|monthly|quarterly|yearly|annually)"
    r"|(?:[0-9*][0-9*,/-]*\s+){2}[0-9*?L][0-9*?,/L-]*\s+[0-9A-Za-z*][0-9A-Za-z*,/-]*\s+[0-9A-Za-z*?][0-9A-Za-z*?,/#-]*"
)
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class _File(Described, frozen=True, kw_only=True):
    """A target file as it is written."""

    auth: list[dict[str, Any]] = msgspec.field(default_factory=list)
    auth_template: dict[str, Any] = msgspec.field(name="authTemplate", default_factory=dict)


def load(path: Path) -> Target:
    """The target that a file describes. Its credentials must be `${NAME}` references, never literals.

    Raises:
        TargetError: the file cannot be read or says what it must not; the message names the place.
    """
    raw = read_yaml(path)
    if not _NAME.fullmatch(path.stem):
        raise TargetError(
            "is no name for a target", where=str(path), next_step="use lower-case letters, digits, - and _: shop.yaml"
        )
    if not isinstance(raw, dict):
        raise TargetError("holds no mapping", where=str(path), next_step="a target file has at least `spec:`")
    try:
        file = msgspec.convert(raw, _File, strict=False)
    except msgspec.ValidationError as error:
        raise TargetError(
            _hint(str(error)), where=str(path), next_step="see docs/targets.md for the keys and their ranges"
        ) from error
    _refuse_unusable(file, str(path))
    document = {"auth": file.auth, "authTemplate": file.auth_template}
    described = {name: getattr(file, name) for name in Described.__struct_fields__}
    resolved = {
        "title": file.title or path.stem,
        "spec": _relative_to(path.parent, file.spec),
        "base_url": file.base_url.rstrip("/"),
        "generate": msgspec.structs.replace(
            file.generate, imports=tuple(str(path.parent / name) for name in file.generate.imports)
        ),
    }
    users = identities(document, where=str(path), literal_secrets=False)
    if (users or file.tls.cert) and not file.base_url:
        raise TargetError(
            "has credentials and no `base_url`",
            where=str(path),
            next_step="add it: credentials go to that address alone, and the servers in the document can change",
        )
    return Target(name=path.stem, identities=users, **{**described, **resolved})


def load_all(directory: Path) -> dict[str, Target]:
    """The targets of all `*.yaml` files in the directory, by name, sorted.

    Raises:
        TargetError: the directory is missing, or a file is bad (the first one, by name).
    """
    if not directory.is_dir():
        raise TargetError("is no directory", where=str(directory), next_step="set TESTOPS_TARGETS_DIR")
    return {path.stem: load(path) for path in sorted(directory.glob("*.yaml"))}


def find(directory: Path, name: str) -> Target:
    """The target called `name`.

    Raises:
        TargetError: there is no such file; the message offers the nearest name.
    """
    path = directory / f"{name}.yaml"
    if not _NAME.fullmatch(name) or not path.is_file():
        names = sorted(path.stem for path in directory.glob("*.yaml"))
        near = _nearest(name, names)
        raise TargetError(
            f"there is no target {name!r}",
            where=str(directory),
            next_step=f"did you mean {near}?" if near else f"there are: {', '.join(names) or 'none'}",
        )
    return load(path)


def _refuse_unusable(file: _File, where: str) -> None:
    """Raises for values of the right type that no run can use, so that a typing error shows before the nightly run."""
    base_url = file.base_url.strip()
    fault = base_url_fault(base_url) if base_url and not has_reference(base_url) else ""
    if fault:
        raise TargetError(f"base_url {fault}", where=where, next_step="write http(s)://host[:port][/path]")
    if file.schedule is not None and not _CRON.fullmatch(file.schedule.strip()):
        raise TargetError(
            f"schedule: {file.schedule!r} is no cron expression",
            where=where,
            next_step='write five fields, such as "0 3 * * *" for every night at three (UTC), or @daily',
        )
    for check in file.gate.ignore:
        if check not in CHECKS:
            near = _nearest(check, CHECKS)
            raise TargetError(
                f"gate.ignore: there is no check {check!r}",
                where=where,
                next_step=f"did you mean {near}?" if near else f"there are: {', '.join(sorted(CHECKS))}",
            )
    for source in file.generate.sources:
        if source not in SOURCES:
            raise TargetError(
                f"generate.sources: there is no source {source!r}",
                where=where,
                next_step=f"there are: {', '.join(SOURCES)}",
            )
    for name in ("ca", "cert", "key"):
        text = getattr(file.tls, name)
        if text and not text.startswith(("/", "${")):
            raise TargetError(
                f"tls.{name} is neither an absolute path nor ${{NAME}}",
                where=where,
                next_step="the runner reads the file on its machine; never write a key into a target file",
            )
    if file.tls.key and not file.tls.cert:
        raise TargetError("tls has a key and no cert", where=where, next_step="add tls.cert")
    for host in file.policy.hosts:
        if not _HOST.fullmatch(host):
            raise TargetError(
                f"policy.hosts: {host!r} is no host", where=where, next_step="write example.com or example.com:8443"
            )


def _relative_to(directory: Path, spec: str) -> str:
    if is_url(spec) or spec.startswith(("/", "${")):
        return spec
    return str(directory / spec)


def _hint(message: str) -> str:
    """A message of msgspec, with the nearest valid key if it is about an unknown one."""
    unknown = re.search(r"unknown field `(.+?)`", message)
    if not unknown:
        return message
    valid = {
        name
        for kind in (_File, Policy, GateRules, Expected, Scope, Generate, PropertyBased, Notify, Tls, Trace)
        for name in kind.__struct_encode_fields__
    }
    near = _nearest(unknown[1], valid)
    return message + (f"; did you mean `{near}`?" if near else "")


def _nearest(word: str, words: Iterable[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(word, list(words), 1)), "")
