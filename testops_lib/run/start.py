"""The stages `open_run` and `load_spec`: what a run does, and the document it reads."""

from __future__ import annotations

import logging
import os

import msgspec

from testops_lib import spec as specs
from testops_lib.errors import SettingsError, TargetError
from testops_lib.http import tls
from testops_lib.http.address import is_url
from testops_lib.http.url import origin_of
from testops_lib.model import Value
from testops_lib.run.conf import apply_conf, described_target, document_location, permit, suite_of
from testops_lib.run.rounds import wanted_rounds
from testops_lib.run.scope import in_scope
from testops_lib.settings import Settings
from testops_lib.spec.operation import Spec
from testops_lib.store import Store
from testops_lib.target import ResolvedRun, RunConf, Target
from testops_lib.text import printable

_LOG = logging.getLogger(__name__)


GROUP_SIZE = 40
"""Operations that one generate task plans."""


class OperationGroup(Value, frozen=True, kw_only=True):
    """Operations that one generate task plans."""

    name: str
    first: int
    """Place of its first operation among those in scope, from 0: groups are ordered by it."""
    operations: tuple[str, ...]
    """Their keys, in the document's conf."""
    of: int
    """How many operations are in scope."""


def open_run(run: str, conf: RunConf, settings: Settings) -> tuple[str, ...]:
    """Stores what the run does; returns what else it may need: a review (`new`, `always`), `rounds`, or neither.

    Later stages read what is stored here, whatever becomes of the target file. Calling it again replaces it.
    """
    described = described_target(conf, settings)
    permit(conf, described, settings)
    target = apply_conf(conf, described, os.environ)
    located = msgspec.structs.replace(target, spec=document_location(conf, target, settings))
    with Store(settings.need_dsn()) as store:
        store.open_run(
            run,
            target.name,
            title=target.title,
            base_url=target.base_url,
            resolved=ResolvedRun(conf=conf, target=target),
            suite=suite_of(conf, located, described),
        )
    generate = target.generate
    if generate.review == "never":
        return ("rounds",) if wanted_rounds(generate) else ()
    if generate.rounds:
        _LOG.info("no further rounds: a person looks at the cases of this run, and what rounds make would run at once")
    return (generate.review,)


def resolved_run(store: Store, run: str) -> ResolvedRun:
    """What the run does, as it was opened.

    Raises:
        StoreError: there is no such run.
        SettingsError: it was not opened by this version.
    """
    resolved = store.run(run).resolved
    if resolved is None:
        raise SettingsError("was opened by an earlier version", where=f"run {run}", next_step="start another run")
    return resolved


def load_spec(run: str, settings: Settings) -> list[OperationGroup]:
    """Reads the document, stores it, and cuts the operations in scope into groups."""
    with Store(settings.need_dsn()) as store:
        about, resolved = store.run(run), resolved_run(store, run)
        target, conf = resolved.target, resolved.conf
        located = msgspec.structs.replace(target, spec=document_location(conf, target, settings))
        spec = read_spec(conf, located)
        chosen = in_scope(spec, target)
        store.put_spec(spec.content_hash, specs.encode(spec))
        store.open_run(
            run,
            target.name,
            title=target.title or spec.title,
            base_url=specs.base_url(spec, located.spec, target.base_url),
            spec_hash=spec.content_hash,
            resolved=resolved,
            suite=about.suite,
        )
        retired = store.retire(about.suite, kept=[operation.key for operation in spec.operations])
    if retired:
        _LOG.info("retired %d cases: the document does not describe their operations any more", retired)
    for warning in spec.warnings:
        _LOG.warning("%s", printable(warning))
    for key, why in spec.unusable.items():
        _LOG.warning("unusable: %s: %s", printable(key), printable(why))
    groups = [chosen[first : first + GROUP_SIZE] for first in range(0, len(chosen), GROUP_SIZE)]
    return [
        OperationGroup(
            name=f"{group[0].key} and {len(group) - 1} more",
            first=number * GROUP_SIZE,
            operations=tuple(operation.key for operation in group),
            of=len(chosen),
        )
        for number, group in enumerate(groups)
    ]


def read_spec(conf: RunConf, target: Target) -> Spec:
    """The document as it is now."""
    # A target file is reviewed; whatever else names a document may point it anywhere.
    reviewed = bool(conf.target) and not conf.spec
    return specs.load(
        target.spec,
        allow_private=reviewed or target.policy.allow_private,
        certificates=_certificates(target) if is_url(target.spec) else None,
    )


def _certificates(target: Target) -> tls.Material:
    """Those of the target, for its document; none where they are the runners' alone, who read them elsewhere."""
    try:
        certificates = tls.read(target.tls, os.environ, where=f"target {target.name}")
        is_own_server = bool(target.base_url) and origin_of(target.spec) == origin_of(target.base_url)
    except (TargetError, ValueError):
        return tls.Material()
    return certificates if is_own_server else certificates.without_client()


def stored_spec(store: Store, run: str) -> Spec:
    """The document as the run read it."""
    return specs.decode(store.get_spec(store.run(run).spec_hash))
