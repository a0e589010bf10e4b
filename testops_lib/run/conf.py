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
    """The order that a DAG run's conf holds; empty values count as not given.

    Raises:
        SettingsError: an unknown key or a value of the wrong type.
    """
    given = {key: value for key, value in conf.items() if value not in (None, "", [], {})}
    if given.get("target") == OTHER_DOCUMENT:
        del given["target"]
    try:
        order = msgspec.convert(given, RunConf, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(RunConf.__struct_encode_fields__)
        raise SettingsError(str(error), where="the run's conf", next_step=f"it may hold: {known}") from error
    if not order.target and not order.spec:
        raise SettingsError(
            "names neither a target nor a spec", where="the run's conf", next_step="give one of the two"
        )
    return order


def resolve(order: RunConf, settings: Settings, environ: Mapping[str, str] = os.environ) -> Target:
    """The target of an order as it is now, with the order's own wishes applied.

    `${NAME}` is replaced in the spec, base URL and values of a target file only: whoever may give an order must not
    read the environment by it, nor send the target's credentials to a place that its file does not name.

    Raises:
        TargetError: there is no such target, a variable is missing, a file outside the allowed directory is named, or
            credentials would go elsewhere.
    """
    target = apply_conf(order, described_target(order, settings), environ)
    return msgspec.structs.replace(target, spec=document_location(order, target, settings, environ))


def described_target(order: RunConf, settings: Settings) -> Target:
    """The order's target as its file describes it; of an order without one, what it says itself.

    Raises:
        TargetError: there is no such target, or it names a variable that it may not.
    """
    if order.target:
        target = targets.find(settings.targets_dir, order.target)
        for name in sorted(targets.all_references(target)):
            if not may_be_named(name, settings):
                raise TargetError(
                    f"may not refer to ${{{name}}}",
                    where=target.name,
                    next_step="the operator says which names target files may hold: TESTOPS_TARGET_VARIABLES",
                )
        return target
    name = re.sub(r"[^a-z0-9]+", "-", order.spec.lower().rsplit("/", 1)[-1]).strip("-") or "spec"
    target = Target(name=f"adhoc-{name}"[:63], spec=order.spec, policy=Policy(allow_private=order.allow_private))
    if settings.adhoc_auth:
        given = msgspec.json.decode(settings.adhoc_auth, type=targets.Credentials)
        if order.base_url and _named(order.base_url, given.base_url, ()):
            return msgspec.structs.replace(target, base_url=given.base_url, identities=given.identities)
    return target


def permit(order: RunConf, described: Target, settings: Settings) -> None:
    """Returns when whoever gives orders may give this one.

    Raises:
        SettingsError: it asks for more than target files describe, and the operator does not let it.
    """
    own = targets.expand(described.base_url, where=described.name) if order.target and order.base_url else ""
    elsewhere = bool(order.base_url) and not _named(order.base_url.rstrip("/"), own, described.policy.hosts)
    if not order.target or order.spec or elsewhere:
        asked = "another document" if order.spec else "another base URL"
        if settings.adhoc == "off":
            raise SettingsError(
                f"{asked} than a target file names may not be tested here",
                where="the run's conf",
                next_step="write a target file, or have the operator set TESTOPS_ADHOC=public",
            )
        if settings.adhoc == "public" and (order.allow_private or described.policy.allow_private):
            raise SettingsError(
                f"{asked} may not be tested at private addresses here",
                where="the run's conf",
                next_step="write a target file, or have the operator set TESTOPS_ADHOC=private",
            )


def document_location(
    order: RunConf, target: Target, settings: Settings, environ: Mapping[str, str] = os.environ
) -> str:
    """Where the document lies: URL or path, its variables replaced."""
    spec = order.spec or targets.expand(target.spec, environ, where=target.name)
    if not is_url(spec) and not _inside(spec, settings.specs_dir) and not _inside(spec, settings.targets_dir):
        raise TargetError(
            "lies outside the directory of OpenAPI files", where=spec, next_step="put it there or set TESTOPS_SPECS_DIR"
        )
    return spec


def apply_conf(order: RunConf, target: Target, environ: Mapping[str, str]) -> Target:
    """The target with the order's wishes; its `spec` stays as written."""
    own_base_url = targets.expand(target.base_url, environ, where=target.name)
    base_url = (order.base_url or own_base_url).rstrip("/")
    if (
        (target.identities or target.tls.cert)
        and (order.base_url or order.spec)
        and not _named(base_url, own_base_url, target.policy.hosts)
    ):
        raise TargetError(
            f"its credentials are not sent to {base_url or 'wherever another document says'}",
            where=target.name,
            next_step="name the address in the target file: as `base_url`, or its host in the policy's `hosts`",
        )
    scope, generate, policy = target.operations, target.generate, target.policy
    if order.operations or order.tags:
        scope = Scope(include=order.operations or scope.include, exclude=scope.exclude, tags=order.tags or scope.tags)
    if order.sources or order.max_cases:
        generate = msgspec.structs.replace(
            generate, sources=order.sources or generate.sources, max_cases=order.max_cases or generate.max_cases
        )
    generate = msgspec.structs.replace(
        generate,
        max_tokens=min(filter(None, (order.max_tokens, generate.max_tokens)), default=0),
        max_money=min(filter(None, (order.max_money, generate.max_money)), default=0),
    )
    if order.review and suites.REVIEWS.index(order.review) > suites.REVIEWS.index(generate.review):
        generate = msgspec.structs.replace(generate, review=order.review)
    if order.rounds is not None:
        generate = msgspec.structs.replace(generate, rounds=order.rounds)
    if order.methods == "safe":
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


def suite_name(order: RunConf, settings: Settings) -> str:
    """Whose suite the order executes: the target's; one apart for another document or fewer methods."""
    return suite_of(order, resolve(order, settings), described_target(order, settings))


def suite_of(order: RunConf, target: Target, described: Target) -> str:
    name = target.name
    if not order.target or order.spec:
        name += f"@{suites.digest(target.spec)[:8]}"
    own = described.policy.methods if order.target else "all"
    return name if target.policy.methods == own else f"{name}@{target.policy.methods}"


def _named(url: str, own: str, hosts: Collection[str]) -> bool:
    """Whether `url` is on the origin of `own`, or on one of the policy's hosts."""
    from testops_lib.http.url import Origin, allowed, origin

    try:
        there = origin(url)
        return allowed(there, origin(own) if own else Origin(there.scheme, "", 0), hosts)
    except TargetError:
        return False


def _inside(path: str, directory: Path) -> bool:
    return Path(path).resolve().is_relative_to(directory.resolve())
