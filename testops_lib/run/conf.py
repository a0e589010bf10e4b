"""A run's conf -> the target as the run tests it. Pure but for the target file it reads."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from testops_lib import suite as suites
from testops_lib import target as targets
from testops_lib.errors import SettingsError, TargetError
from testops_lib.http.address import is_url
from testops_lib.model import Policy
from testops_lib.settings import OTHER_DOCUMENT, SOURCES, Settings, may_be_named
from testops_lib.target import RunConf, Scope, Target


def parse_conf(conf: Mapping[str, Any]) -> RunConf:
    """The conf of a DAG run; empty values count as not given.

    Raises:
        SettingsError: an unknown key or a value of the wrong type.
    """
    values = {key: value for key, value in conf.items() if value not in (None, "", [], {})}
    if values.get("target") == OTHER_DOCUMENT:
        del values["target"]
    try:
        parsed = msgspec.convert(values, RunConf, strict=False)
    except msgspec.ValidationError as error:
        keys = ", ".join(RunConf.__struct_encode_fields__)
        raise SettingsError(str(error), where="the run's conf", next_step=f"it may hold: {keys}") from error
    if not parsed.target and not parsed.spec:
        raise SettingsError(
            "names neither a target nor a spec", where="the run's conf", next_step="give one of the two"
        )
    return parsed


def resolve(conf: RunConf, settings: Settings, environ: Mapping[str, str] = os.environ) -> Target:
    """The target of a run as it is now, changed as the run's conf says.

    `${NAME}` is replaced in the spec, base URL and values of a target file only: whoever may start a run must not
    read the environment by it, nor send the target's credentials to a place that its file does not name.

    Raises:
        TargetError: there is no such target, a variable is missing, a file outside the allowed directory is named, or
            credentials would go elsewhere.
    """
    target = apply_conf(conf, described_target(conf, settings), environ)
    return msgspec.structs.replace(target, spec=document_location(conf, target, settings, environ))


def described_target(conf: RunConf, settings: Settings) -> Target:
    """The target as its file describes it; without a target file, as the conf itself describes it.

    Raises:
        TargetError: there is no such target, or it names a variable that it may not.
    """
    if conf.target:
        target = targets.find(settings.targets_dir, conf.target)
        for name in sorted(targets.all_references(target)):
            if not may_be_named(name, settings):
                raise TargetError(
                    f"may not refer to ${{{name}}}",
                    where=target.name,
                    next_step="the operator says which names target files may hold: TESTOPS_TARGET_VARIABLES",
                )
        return target
    name = re.sub(r"[^a-z0-9]+", "-", conf.spec.lower().rsplit("/", 1)[-1]).strip("-") or "spec"
    target = Target(name=f"adhoc-{name}"[:63], spec=conf.spec, policy=Policy(allow_private=conf.allow_private))
    if settings.adhoc_auth:
        credentials = msgspec.json.decode(settings.adhoc_auth, type=targets.Credentials)
        if conf.base_url and _is_allowed(conf.base_url, credentials.base_url, ()):
            return msgspec.structs.replace(target, base_url=credentials.base_url, identities=credentials.identities)
    return target


def permit(conf: RunConf, described: Target, settings: Settings) -> None:
    """Returns if whoever may start runs may start this one.

    Raises:
        SettingsError: it asks for more than target files describe, and the operator does not allow that.
    """
    own_base_url = targets.expand(described.base_url, where=described.name) if conf.target and conf.base_url else ""
    elsewhere = bool(conf.base_url) and not _is_allowed(conf.base_url.rstrip("/"), own_base_url, described.policy.hosts)
    if not conf.target or conf.spec or elsewhere:
        wanted = "another document" if conf.spec else "another base URL"
        if settings.adhoc == "off":
            raise SettingsError(
                f"{wanted} than a target file names may not be tested here",
                where="the run's conf",
                next_step="write a target file, or have the operator set TESTOPS_ADHOC=public",
            )
        if settings.adhoc == "public" and (conf.allow_private or described.policy.allow_private):
            raise SettingsError(
                f"{wanted} may not be tested at private addresses here",
                where="the run's conf",
                next_step="write a target file, or have the operator set TESTOPS_ADHOC=private",
            )


def document_location(
    conf: RunConf, target: Target, settings: Settings, environ: Mapping[str, str] = os.environ
) -> str:
    """Where the document lies: URL or path, its variables replaced."""
    spec = conf.spec or targets.expand(target.spec, environ, where=target.name)
    if not is_url(spec) and not _inside(spec, settings.specs_dir) and not _inside(spec, settings.targets_dir):
        raise TargetError(
            "lies outside the directory of OpenAPI files", where=spec, next_step="put it there or set TESTOPS_SPECS_DIR"
        )
    return spec


def apply_conf(conf: RunConf, target: Target, environ: Mapping[str, str]) -> Target:
    """The target as the conf changes it; its `spec` stays as written."""
    own_base_url = targets.expand(target.base_url, environ, where=target.name)
    base_url = (conf.base_url or own_base_url).rstrip("/")
    if (
        (target.identities or target.tls.cert)
        and (conf.base_url or conf.spec)
        and not _is_allowed(base_url, own_base_url, target.policy.hosts)
    ):
        raise TargetError(
            f"its credentials are not sent to {base_url or 'wherever another document says'}",
            where=target.name,
            next_step="name the address in the target file: as `base_url`, or its host in the policy's `hosts`",
        )
    scope, generate, policy = target.operations, target.generate, target.policy
    if conf.operations or conf.tags:
        scope = Scope(include=conf.operations or scope.include, exclude=scope.exclude, tags=conf.tags or scope.tags)
    if conf.sources or conf.max_cases:
        generate = msgspec.structs.replace(
            generate, sources=conf.sources or generate.sources, max_cases=conf.max_cases or generate.max_cases
        )
    generate = msgspec.structs.replace(
        generate,
        max_tokens=min(filter(None, (conf.max_tokens, generate.max_tokens)), default=0),
        max_money=min(filter(None, (conf.max_money, generate.max_money)), default=0),
    )
    if conf.review and suites.REVIEWS.index(conf.review) > suites.REVIEWS.index(generate.review):
        generate = msgspec.structs.replace(generate, review=conf.review)
    if conf.rounds is not None:
        generate = msgspec.structs.replace(generate, rounds=conf.rounds)
    if conf.methods == "safe":
        policy = msgspec.structs.replace(policy, methods="safe")
    unknown = [name for name in generate.sources if name not in SOURCES]
    if unknown or not generate.sources:
        what = f"{unknown[0]!r} is no source of cases" if unknown else "names no source of cases"
        raise TargetError(what, where=target.name, next_step=f"there are: {', '.join(SOURCES)}")

    def expanded(value: Any) -> Any:
        return targets.expand(value, environ, where=target.name) if isinstance(value, str) else value

    return msgspec.structs.replace(
        target,
        base_url=base_url,
        values={name: tuple(expanded(value) for value in chosen) for name, chosen in target.values.items()},
        operations=scope,
        generate=generate,
        policy=policy,
    )


def suite_name(conf: RunConf, settings: Settings) -> str:
    """The suite that a run executes: the target's own; a separate one for another document or fewer methods."""
    return suite_of(conf, resolve(conf, settings), described_target(conf, settings))


def suite_of(conf: RunConf, target: Target, described: Target) -> str:
    """As `suite_name`, of a resolved target and the target as its file describes it."""
    name = target.name
    if not conf.target or conf.spec:
        name += f"@{suites.digest(target.spec)[:8]}"
    own_methods = described.policy.methods if conf.target else "all"
    return name if target.policy.methods == own_methods else f"{name}@{target.policy.methods}"


def _is_allowed(url: str, own_url: str, hosts: Collection[str]) -> bool:
    """Whether `url` is on the origin of `own_url`, or on one of the policy's hosts."""
    from testops_lib.http.url import Origin, allowed, origin

    try:
        wanted = origin(url)
        return allowed(wanted, origin(own_url) if own_url else Origin(wanted.scheme, "", 0), hosts)
    except TargetError:
        return False


def _inside(path: str, directory: Path) -> bool:
    return Path(path).resolve().is_relative_to(directory.resolve())
