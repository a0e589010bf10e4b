"""The stages of a run, one call each: what the DAG's tasks do, reachable without Airflow.

Every stage may be repeated: it reads what earlier stages stored and replaces its own outcome.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import re
import shutil
import uuid
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from testops_lib import notify as notifying
from testops_lib import report as reporting
from testops_lib import spec as specs
from testops_lib import suite as suites
from testops_lib import target as targets
from testops_lib.bus import batch as batches
from testops_lib.bus.client import Bus
from testops_lib.cost import in_words, total
from testops_lib.errors import GenerateError, SettingsError, StoreError, TargetError
from testops_lib.export import recipe
from testops_lib.generate import rules
from testops_lib.generate.judge import RequestJudge
from testops_lib.generate.rules.own_account import spares
from testops_lib.generate.rules.ownership import with_ownership
from testops_lib.generate.rules.words import plain as plain_name
from testops_lib.generate.sequence import Arrangement, order
from testops_lib.generate.sources import GenerationRequest, less, spending_limits, told_of, without_repeated
from testops_lib.http import tls
from testops_lib.http.address import is_url
from testops_lib.launch import fleet
from testops_lib.model import (
    Batch,
    BatchOrder,
    Call,
    Case,
    Contract,
    Cost,
    Ended,
    Generation,
    Identity,
    Plan,
    Policy,
    Report,
    Result,
    Value,
)
from testops_lib.redact import Redactor
from testops_lib.run import collect as collecting
from testops_lib.run.refresh import renew
from testops_lib.settings import OTHER_DOCUMENT, SOURCES, Settings, may_be_named
from testops_lib.spec.fetch import origin
from testops_lib.spec.operation import Operation, Spec
from testops_lib.store import Store
from testops_lib.target import RunConf as RunConf
from testops_lib.target import Scope, Settled, Target
from testops_lib.text import printable
from testops_lib.verdict.analyze import analyze as analyze_results
from testops_lib.verdict.analyze import settle
from testops_lib.verdict.fingerprint import fingerprint_of
from testops_lib.verdict.gate import decide
from testops_lib.verdict.repetition import Repetitions
from testops_lib.verdict.response_times import RUNS, Medians

_LOG = logging.getLogger(__name__)

_NONE_GIVEN = "give credentials: -H, -Q or --auth, or `auth` in the target file"
_TAKEN_BY_NOBODY = "the credentials given are not accepted"

_LAST = (False, True)
"""Cases that come last are published in batches of their own."""

GROUP_SIZE = 40
"""Operations that one generate task plans."""


class Group(Value, frozen=True, kw_only=True):
    """Operations that one generate task plans."""

    name: str
    first: int
    """Place of its first operation among those in scope, from 0: groups are ordered by it."""
    operations: tuple[str, ...]
    """Their keys, in the document's order."""
    of: int
    """How many operations are in scope."""


class Published(Value, frozen=True, kw_only=True):
    """Where the cases of a run lie: batches as text (`topic:partition:first-end`)."""

    plan: str
    batches: tuple[str, ...]
    last: tuple[str, ...] = ()
    """To be executed after all others."""
    results: str = ""
    """Where the run's results begin (`0:120,1:98`)."""
    cases: int = 0


class Again(Value, frozen=True, kw_only=True):
    """A further attempt of a finished run."""

    attempt: int
    results: str
    """Where its results begin (`0:120,1:98`)."""
    target: str = ""
    """The target file's name, where the run has one."""


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
    target = _wished(order, _described(order, settings), environ)
    return msgspec.structs.replace(target, spec=_document(order, target, settings, environ))


def _described(order: RunConf, settings: Settings) -> Target:
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


def _document(order: RunConf, target: Target, settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """Where the document lies: URL or path, its variables replaced."""
    spec = order.spec or targets.expand(target.spec, environ, where=target.name)
    if not is_url(spec) and not _inside(spec, settings.specs_dir) and not _inside(spec, settings.targets_dir):
        raise TargetError(
            "lies outside the directory of OpenAPI files", where=spec, next_step="put it there or set TESTOPS_SPECS_DIR"
        )
    return spec


def _wished(order: RunConf, target: Target, environ: Mapping[str, str]) -> Target:
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
    return _suite_name(order, resolve(order, settings), _described(order, settings))


def _suite_name(order: RunConf, target: Target, described: Target) -> str:
    name = target.name
    if not order.target or order.spec:
        name += f"@{suites.digest(target.spec)[:8]}"
    own = described.policy.methods if order.target else "all"
    return name if target.policy.methods == own else f"{name}@{target.policy.methods}"


def _named(url: str, own: str, hosts: Collection[str]) -> bool:
    """Whether `url` is on the origin of `own`, or on one of the policy's hosts."""
    from testops_lib.execute.wire import Origin, allowed, origin

    try:
        there = origin(url)
        return allowed(there, origin(own) if own else Origin(there.scheme, "", 0), hosts)
    except TargetError:
        return False


def _inside(path: str, directory: Path) -> bool:
    return Path(path).resolve().is_relative_to(directory.resolve())


def in_scope(spec: Spec, target: Target) -> tuple[Operation, ...]:
    """The operations to test, in document order: included, not excluded, allowed by the policy.

    Raises:
        TargetError: none is left.
    """
    scope = target.operations
    chosen = specs.select(spec, patterns=scope.include, tags=scope.tags, safe_only=target.policy.methods == "safe")
    if scope.exclude:
        barred = {each.key for each in specs.select(spec, patterns=scope.exclude)}
        chosen = tuple(each for each in chosen if each.key not in barred)
    if not chosen:
        raise TargetError(
            f"none of the {len(spec.operations)} operations is in scope",
            where=target.name or spec.source,
            next_step="check the operations filter, the tags and the policy's methods",
        )
    return chosen


def not_tested(spec: Spec, target: Target) -> dict[str, str]:
    """Operations in scope that the document describes beyond use, or that would do harm -> why."""
    scope = target.operations
    left_out = tuple(f"!{pattern.removeprefix('!')}" for pattern in scope.exclude)
    unusable = specs.select_unusable(
        spec, patterns=(*scope.include, *left_out), tags=scope.tags, safe_only=target.policy.methods == "safe"
    )
    harmful = rules.left_out(spec, policy=target.policy, spares=spares(target.identities))
    try:
        chosen = in_scope(spec, target)
    except TargetError:
        return unusable
    return unusable | {each.key: harmful[each.key] for each in chosen if each.key in harmful}


def plan(spec: Spec, target: Target, base_url: str = "") -> Plan:
    """What a runner must know of the target. Holds references to secrets, never a secret.

    Without `base_url` it is what the target, or the document at its `spec`, says.
    """
    return Plan(
        target=target.name,
        base_url=base_url or specs.base_url(spec, target.spec, target.base_url),
        policy=target.policy,
        identities=target.identities,
        tls=target.tls,
        given=_given(spec, target),
        spec_title=spec.title,
        spec_hash=spec.content_hash,
    )


def _given(spec: Spec, target: Target) -> dict[str, tuple[str, ...]]:
    """The values that the target file states for path parameters: a person chose these things."""
    wildcards = ("~", "*", "-")
    stated = {
        plain_name(name): tuple(str(value) for value in values if value not in wildcards)
        for name, values in target.values.items()
    }
    names = {one.name for operation in spec.operations for one in operation.parameters if one.where == "path"}
    return {name: stated[plain_name(name)] for name in sorted(names) if plain_name(name) in stated}


def contracts(spec: Spec, target: Target) -> dict[str, Contract]:
    """The contract of every operation of the spec, with what the target declares as expected."""
    found = {
        each.key: specs.contract(spec, each, accepted_statuses=_accepted(target, each)) for each in spec.operations
    }
    found = rules.with_existing(found, spec, policy=target.policy, values=target.values)
    return with_ownership(found, spec, target.policy)


def _accepted(target: Target, operation: Operation) -> tuple[int, ...]:
    statuses = {
        status
        for expected in target.expected
        if fnmatch.fnmatchcase(operation.key, expected.operation)
        for status in expected.statuses
    }
    return tuple(sorted(statuses))


def suite(cases: Iterable[Case], spec: Spec, target: Target) -> tuple[Case, ...]:
    """The cases in the order in which every prefix is the best use of that many, cut at the target's limit."""
    unique = {case.id: case for case in cases}
    ordered = order(unique.values(), spec)
    return ordered[: target.generate.max_cases] if target.generate.max_cases else ordered


# --------------------------------------------------------------------------- the stages


def bus(settings: Settings) -> Bus:
    """The bus that the settings name."""
    return Bus(settings.need_kafka(), options=settings.kafka_options, timeout_s=settings.kafka_timeout_s)


def open_run(run: str, order: RunConf, settings: Settings) -> tuple[str, ...]:
    """Settles what the run does and registers it; gives what else it may need: a review (`new`, `always`), further
    `rounds`, or neither.

    Later stages heed what is stored here, whatever becomes of the target file. Repeated it settles the run anew.
    """
    described = _described(order, settings)
    permit(order, described, settings)
    target = _wished(order, described, os.environ)
    located = msgspec.structs.replace(target, spec=_document(order, target, settings))
    with Store(settings.need_dsn()) as store:
        store.open_run(
            run,
            target.name,
            title=target.title,
            base_url=target.base_url,
            settled=Settled(order=order, target=target),
            suite=_suite_name(order, located, described),
        )
    wishes = target.generate
    if wishes.review == "never":
        return ("rounds",) if wishes.rounds else ()
    if wishes.rounds:
        _LOG.info("no further rounds: a person looks at the cases of this run, and what rounds make would run at once")
    return (wishes.review,)


def settled(store: Store, run: str) -> Settled:
    """What the run does, as it was opened.

    Raises:
        StoreError: there is no such run.
        SettingsError: it was not opened by this version.
    """
    found = store.run(run).settled
    if found is None:
        raise SettingsError("was opened by an earlier version", where=f"run {run}", next_step="start another run")
    return found


def load_spec(run: str, settings: Settings) -> list[Group]:
    """Reads the document, stores it, and cuts the operations in scope into groups."""
    with Store(settings.need_dsn()) as store:
        about, known = store.run(run), settled(store, run)
        target, order = known.target, known.order
        located = msgspec.structs.replace(target, spec=_document(order, target, settings))
        spec = read_spec(order, located)
        chosen = in_scope(spec, target)
        store.put_spec(spec.content_hash, specs.encode(spec))
        store.open_run(
            run,
            target.name,
            title=target.title or spec.title,
            base_url=specs.base_url(spec, located.spec, target.base_url),
            spec_hash=spec.content_hash,
            settled=known,
            suite=about.suite,
        )
        gone = store.retire(about.suite, kept=[each.key for each in spec.operations])
    if gone:
        _LOG.info("retired %d cases: the document does not describe their operations any more", gone)
    for warning in spec.warnings:
        _LOG.warning("%s", printable(warning))
    for key, why in spec.unusable.items():
        _LOG.warning("unusable: %s: %s", printable(key), printable(why))
    groups = [chosen[first : first + GROUP_SIZE] for first in range(0, len(chosen), GROUP_SIZE)]
    return [
        Group(
            name=f"{group[0].key} and {len(group) - 1} more",
            first=number * GROUP_SIZE,
            operations=tuple(each.key for each in group),
            of=len(chosen),
        )
        for number, group in enumerate(groups)
    ]


def read_spec(order: RunConf, target: Target) -> Spec:
    """The document as it is now."""
    # A target file is reviewed; whatever else names a document may point it anywhere.
    reviewed = bool(order.target) and not order.spec
    return specs.load(
        target.spec,
        allow_private=reviewed or target.policy.allow_private,
        certificates=_certificates(target) if is_url(target.spec) else None,
    )


def _certificates(target: Target) -> tls.Material:
    """Those of the target, for its document; none where they are the runners' alone, who read them elsewhere."""
    try:
        certificates = tls.read(target.tls, os.environ, where=f"target {target.name}")
        own = bool(target.base_url) and origin(target.spec) == origin(target.base_url)
    except (TargetError, ValueError):
        return tls.Material()
    return certificates if own else certificates.without_client()


def stored_spec(store: Store, run: str) -> Spec:
    """The document as the run read it."""
    return specs.decode(store.get_spec(store.run(run).spec_hash))


def generate(run: str, group: Group, settings: Settings) -> int:
    """Sees to it that the suite has the cases of one group of operations; gives how many of them the run takes.

    Only what changed since it was last generated is generated: an unchanged document costs no call. A source that
    cannot work is left out, and its `Generation` says why; its cases of earlier runs go on.
    """
    count = 0
    with Store(settings.need_dsn()) as store:
        target = settled(store, run).target
        spec = stored_spec(store, run)
        named = store.run(run).suite
        chosen = tuple(spec.operation(key) for key in group.operations)
        before = spent_before(store, run, target)
        ask = GenerationRequest(
            spec=spec,
            operations=chosen,
            target=target,
            settings=settings,
            left=spending_limits(target, spent=before, part=len(chosen) / group.of),
        )
        place = {each.key: index for index, each in enumerate(chosen)}
        known: set[str] = set()
        for source in target.generate.sources:
            try:
                made = renew(store, named, source, ask)
            except GenerateError as error:
                made = Generation(source=source, failed=str(error))
            ask = msgspec.structs.replace(ask, left=less(ask.left, made))
            members = store.members(named, source=source, operations=place)
            if target.generate.review == "never":
                members = _released(store, members)
            wanted = [each for each in members if each.status in suites.RUNS or each.status == "draft"]
            taken = [each for each in wanted if each.current not in known]
            known.update(each.current for each in taken)
            made = without_repeated(made, len(taken), len(wanted) - len(taken))
            taken.sort(key=lambda each: (place[each.operation], each.position))
            made = msgspec.structs.replace(made, reused=max(0, len(taken) - made.cases))
            store.put_group(run, f"0-{group.first:06}-{source}", [each.current for each in taken], made)
            count += len(taken)
            _LOG.info(
                "%s: %d cases for %d operations, %d of them made now", source, len(taken), len(chosen), made.cases
            )
            for number, call in enumerate(made.spent, 1):
                _LOG.info("call %d: %s", number, printable(_call_in_words(call, made.currency)))
            for line in told_of(made):
                _LOG.info("%s", printable(line))
            if made.calls:
                tokens = before.input_tokens + before.output_tokens
                money = in_words(before.money, made.currency)
                _LOG.info("%s: other runs of this month took %s tokens, %s", target.name, f"{tokens:,}", money)
    return count


def _released(store: Store, members: Sequence[suites.Member]) -> list[suites.Member]:
    """The members; drafts that waited for a review that nobody asks for any more run."""
    why, now = "no review is asked for", datetime.now(UTC)
    drafts = {each.id: each for each in members if each.status == "draft"}
    if not drafts:
        return list(members)
    free = {
        key: msgspec.structs.replace(each, status="active", who="", why=why, changed=now)
        for key, each in drafts.items()
    }
    changes = [
        suites.Change(member=each.id, suite=each.suite, at=now, who="", what="draft -> active", why=why)
        for each in drafts.values()
    ]
    with store.locked(members[0].suite):
        store.put_members(list(free.values()), changes)
    return [free.get(each.id, each) for each in members]


def spent_before(store: Store, run: str, target: Target) -> Cost:
    """What the target's other runs of this calendar month (UTC) took; calls of unknown price count as free."""
    begin = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    costs = [cost for each in store.generations_since(target.name, begin, but=run) for cost in each.spent]
    known = total(cost for cost in costs if cost.money is not None)
    return msgspec.structs.replace(total(costs), money=known.money)


def _call_in_words(call: Call, currency: str) -> str:
    more = f" and {len(call.operations) - 1} more" if len(call.operations) > 1 else ""
    return (
        f"{'repair, ' if call.repair else ''}{call.input_tokens:,} tokens in ({call.cached_tokens:,} cached),"
        f" {call.output_tokens:,} out, {in_words(call.money, currency)}: {call.operations[0]}{more}"
    )


def publish(run: str, settings: Settings) -> Published:
    """Puts the plan and the cases of a run into Kafka; gives the batches.

    Raises:
        GenerateError: there is no case.
        BusError: a delivery failed; repeating is harmless.
    """
    with Store(settings.need_dsn()) as store:
        known_run = settled(store, run)
        target, order = known_run.target, known_run.order
        spec, about = stored_spec(store, run), store.run(run)
        held = store.held(run)
        chosen = _choose(store.read_cases(run, end="1"), held, spec, target)  # not what rounds made before a clearing
        if not chosen:
            failures = dict.fromkeys(f"{one.source}: {one.failed}" for one in store.generations(run) if one.failed)
            why = f" ({'; '.join(failures)})" if failures else ""
            raise GenerateError(
                f"no case may run{why}",
                where=target.name,
                next_step="see the log of `generate`, and `testops cases list`",
            )
        line = bus(settings)
        positions = line.results_position()
        known, further = contracts(spec, target), target.generate.rounds > 0
        plan_batch = line.publish_plan(
            run,
            msgspec.structs.replace(plan(spec, target, about.base_url), observe=order.observe or further),
            [known[key] for key in known if further or key in chosen.operations],
        )
        size = target.policy.cases_per_batch
        main, last = (
            line.publish_cases(run, store.cases_by_id(part()), max_records=size) for part in (chosen.main, chosen.last)
        )
        store.mark_published(run, chosen, positions=positions, plan=plan_batch, batches=[*main, *last])
        begin = store.positions(run)  # an earlier publication's, when this is not the first
    return _published(plan_batch, main, last, batches.positions_text(begin), len(chosen))


class _Chosen:
    """Ids of a suite's cases in the order in which they are published: one text for all of them."""

    def __init__(self, ids: bytes, ends: Sequence[int], main: Sequence[int], last: Sequence[int]) -> None:
        self._ids, self._ends, self._main, self._last = ids, ends, main, last
        self.operations: set[str] = set()
        """Those that the cases call."""

    def __len__(self) -> int:
        return len(self._main) + len(self._last)

    def __iter__(self) -> Iterator[str]:
        yield from self.main()
        yield from self.last()

    def main(self) -> Iterator[str]:
        return map(self._id, self._main)

    def last(self) -> Iterator[str]:
        """Those to be executed after all others."""
        return map(self._id, self._last)

    def _id(self, place: int) -> str:
        return self._ids[self._ends[place - 1] if place else 0 : self._ends[place]].decode()


def _choose(cases: Iterable[Case], held: Collection[str], spec: Spec, target: Target) -> _Chosen:
    """As `suite` chooses them of cases that are all different, without those held; keeps no case in memory."""
    arrangement, ids, ends = Arrangement(spec), bytearray(), array("Q")
    used: set[str] = set()
    for case in cases:
        if case.id in held:
            continue
        arrangement.add(case)
        ids += case.id.encode()
        ends.append(len(ids))
        used.update(step.operation for step in (*case.steps, *case.cleanup))
    main, last = arrangement.order()
    if most := target.generate.max_cases:
        main, last = main[:most], last[: max(0, most - len(main))]
    chosen = _Chosen(bytes(ids), ends, main, last)
    chosen.operations = used
    return chosen


def publish_cases(line: Bus, run: str, cases: Sequence[Case], size: int) -> tuple[list[Batch], list[Batch]]:
    """The batches of the cases, and those that must be executed after all others."""
    main, last = (
        line.publish_cases(run, (case for case in cases if case.last is ends), max_records=size) for ends in _LAST
    )
    return main, last


def repeat(run: str, settings: Settings) -> list[str]:
    """Collects what is there and puts repetitions of failed cases into Kafka; gives their batches.

    They are to be executed one after the other, when nothing else of the run is under way.

    Raises:
        BusError: the results could not be read, or a delivery failed; repeating is harmless.
    """
    with Store(settings.need_dsn()) as store:
        line = bus(settings)
        collecting.drain(line, store, run)
        repetitions = Repetitions(store.cases)
        for result in store.results(run):
            repetitions.add(result)
        cases = repetitions.all_at_once()
        store.merge_results(repetitions.left_out)
        made = line.publish_cases(run, cases, in_order=True) if cases else []
    _LOG.info("%d repetitions of failed cases, %d left out", len(cases), len(repetitions.left_out))
    return [str(batch) for batch in made]


def _published(plan_at: Batch, main: Iterable[Batch], last: Iterable[Batch], results: str, cases: int) -> Published:
    return Published(
        plan=str(plan_at), batches=tuple(map(str, main)), last=tuple(map(str, last)), results=results, cases=cases
    )


def open_again(run: str, settings: Settings) -> Again:
    """The next attempt of a finished run.

    Raises:
        SettingsError: the run has no report yet.
        StoreError: there is no such run.
    """
    with Store(settings.need_dsn()) as store:
        about = store.run(run)
        if store.report(run) is None or about.plan_batch is None:
            raise SettingsError(
                "has no report yet", where=f"run {run}", next_step="wait for its end, or clear its tasks in Airflow"
            )
        attempt = store.last_attempt(run) + 1
    named = (settings.targets_dir / f"{about.target}.yaml").is_file()
    return Again(
        attempt=attempt,
        results=batches.positions_text(bus(settings).results_position()),
        target=about.target if named else "",
    )


def publish_again(run: str, again: Again, settings: Settings) -> Published:
    """Puts the cases that did not pass before this attempt into Kafka; they are judged by the run's own plan.

    Raises:
        ExpiredBatchError: the run's plan is no longer in Kafka.
        BusError: a delivery failed; repeating is harmless.
    """
    with Store(settings.need_dsn()) as store:
        plan_at = store.run(run).plan_batch
        assert plan_at is not None
        wanted = set(store.unpassed(run, before=again.attempt))
        line = bus(settings)
        known, _ = line.read_plan(plan_at, run, deadline_s=settings.kafka_timeout_s)
        chosen = ((case for case in store.read_cases(run) if case.id in wanted and case.last is ends) for ends in _LAST)
        size = known.policy.cases_per_batch
        main, last = (line.publish_cases(run, cases, max_records=size) for cases in chosen)
    return _published(plan_at, main, last, again.results, len(wanted))


def collect(run: str, settings: Settings, *, deadline_s: float = 300, attempt: int = 1) -> collecting.Counts:
    """Brings every result of the run into the store; a published case without one becomes errored `no_result`."""
    with Store(settings.need_dsn()) as store:
        return collecting.collect(bus(settings), store, run, deadline_s=deadline_s, attempt=attempt)


def analyze(run: str, settings: Settings, *, causes: Collection[str] = ()) -> Report:
    """Turns the run's results into its report, judges it by its gate, stores it and writes the files.

    `causes` say why tasks of the run failed.
    """
    with Store(settings.need_dsn()) as store:
        target = settled(store, run).target
        spec = stored_spec(store, run)
        about = store.run(run)
        previous = store.previous_run(target.name, run)
        before = store.report(previous) if previous else None
        report = build_report(
            settle(store.attempts(run)),
            target,
            repetitions=store.repetitions(run),
            run=run,
            operations=documented(in_scope(spec, target)),
            not_tested=not_tested(spec, target),
            base_url=about.base_url,
            title=about.title,
            known=store.known_fingerprints(target.name),
            previous=before,
            generations=store.generations(run),
            started=about.started,
            quarantined=store.quarantined(run),
            history=store.response_times(target.name, run, runs=RUNS),
            causes=causes,
        )
        report = _with_stored_recipes(store, report, target)
        _keep(store, report, settings, latest=True)
        _promote(store, about.suite, target)
        _keep_regressions(store, about.suite, report)
    return report


def _with_stored_recipes(store: Store, report: Report, target: Target) -> Report:
    cases = store.cases({finding.example.case for finding in report.findings})
    return with_recipes(report, cases, target.identities)


def _keep_regressions(store: Store, named: str, report: Report) -> None:
    """Random cases that found a fault stay in the suite, whatever the random cases of another document are."""
    cases = store.cases({finding.example.case for finding in report.findings})
    with store.locked(named):
        known = {member.slot for member in store.members(named, source="property")}
        kept = suites.regressions(report.findings, cases, known, suite=named, at=datetime.now(UTC))
        store.put_members(kept.members)
    for each in kept.members:
        _LOG.info("kept %s: %s: %s", each.id, printable(each.operation), printable(each.slot))


def _promote(store: Store, named: str, target: Target) -> None:
    """Lets the guesses of cases count that passed often enough in a row, from the next run on."""
    runs = target.generate.promote_after
    if not runs:
        return
    now, why = datetime.now(UTC), f"passed in {runs} runs in a row"
    with store.locked(named):
        stable = store.stable(named, runs=runs)
        known = store.cases(stable)
        moved = [each for each in store.members(named) if each.status == "active" and each.current in known]
        cases = {key: suites.promoted(case, "stable") for key, case in known.items()}
        store.put_cases(cases.values())
        store.put_members(
            [
                msgspec.structs.replace(each, current=cases[each.current].id, who="", why=why, changed=now)
                for each in moved
            ],
            [
                suites.Change(
                    member=each.id,
                    suite=named,
                    at=now,
                    who="",
                    what="promoted",
                    why=why,
                    before=each.current,
                    after=cases[each.current].id,
                )
                for each in moved
            ],
        )
    for each in moved:
        _LOG.info("promoted %s: %s: %s", each.id, printable(each.operation), printable(each.slot))


def analyze_again(run: str, settings: Settings, *, causes: Collection[str] = ()) -> Report:
    """The report of a finished run, made anew from all attempts and judged by the gate it was opened with.

    `causes` say why tasks of the latest attempt failed.

    A finding whose cases passed later stays, with a note, and counts: what comes and goes is not fixed.
    """
    with Store(settings.need_dsn()) as store:
        first = store.report(run)
        if first is None:
            raise SettingsError(
                "has no report yet", where=f"run {run}", next_step="clear its task `analyze` in Airflow"
            )
        target = settled(store, run).target
        previous = store.previous_run(first.target, run)
        report = build_report(
            settle(store.attempts(run)),
            target,
            repetitions=store.repetitions(run),
            run=run,
            operations={key: one.documented for key, one in first.operations.items()},
            not_tested={key: one.not_tested for key, one in first.operations.items() if one.not_tested},
            base_url=first.base_url,
            title=first.title,
            known=store.known_fingerprints(first.target),
            previous=store.report(previous) if previous else None,
            generations=first.generation,
            started=first.started,
            quarantined=store.quarantined(run),
            history=store.response_times(first.target, run, runs=RUNS),
            causes=causes,
        )
        report = _with_stored_recipes(store, report, target)
        _keep(store, report, settings, latest=store.latest_run() == run)
    return report


def _keep(store: Store, report: Report, settings: Settings, *, latest: bool) -> None:
    """Stores the report and writes its files; with `latest` they are what `latest` holds, too."""
    store.save_report(report.run, report, report.gate is not None and report.gate.passed)
    folder = settings.reports_dir / re.sub(r"[^A-Za-z0-9_.+-]+", "_", report.run)
    write_report(report, settle(store.attempts(report.run)), folder)
    if not latest:
        return
    place = settings.reports_dir / "latest"
    fresh = settings.reports_dir / f".latest-{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(folder, fresh)
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)


def documented(operations: Iterable[Operation]) -> dict[str, tuple[str, ...]]:
    """Operation key -> documented statuses: what a report must list."""
    return {each.key: tuple(each.responses) for each in operations}


def build_report(
    results: Iterable[Result],
    target: Target,
    *,
    run: str,
    operations: Mapping[str, tuple[str, ...]],
    base_url: str = "",
    title: str = "",
    known: Mapping[str, str] = {},
    previous: Report | None = None,
    generations: Sequence[Generation] = (),
    started: datetime | None = None,
    quarantined: Collection[str] = (),
    history: Sequence[Medians] = (),
    not_tested: Mapping[str, str] = {},
    causes: Collection[str] = (),
    repetitions: Iterable[Result] = (),
) -> Report:
    """The report of these results with the verdict of the target's gate.

    not_tested: operations for which no case could be made -> why; what the generations say comes on top.
    repetitions: what came of repeating failed cases alone.
    """
    reasons = {key: why for generation in generations for key, why in generation.not_tested.items()}
    report = analyze_results(
        results,
        repetitions=repetitions,
        concurrency=target.policy.concurrency,
        target=target.name,
        run=run,
        operations=operations,
        base_url=base_url,
        title=title,
        known=known,
        previous_run=previous.run if previous else "",
        previous=previous.findings if previous else (),
        generation=tuple(generations),
        started=started,
        finished=datetime.now(UTC),
        quarantined=quarantined,
        history=history,
        not_tested={**reasons, **not_tested},
        credentials_hint=_TAKEN_BY_NOBODY if target.identities else _NONE_GIVEN,
    )
    return msgspec.structs.replace(report, gate=decide(report, target.gate, causes))


def with_recipes(report: Report, cases: Mapping[str, Case], identities: Sequence[Identity]) -> Report:
    """The report with a script that shows it again for each finding whose case is given."""
    redactor = Redactor(_literal_secrets(identities))
    findings = []
    for finding in report.findings:
        example = finding.example
        if (case := cases.get(example.case)) is not None:
            case = msgspec.structs.replace(case, steps=example.performed or case.steps)
            wrong = f"{finding.check}: {finding.sent or finding.operation}: {finding.message}"
            script = recipe(case, report.base_url, identities, failing=example.failing_step, wrong=wrong)
            example = msgspec.structs.replace(example, recipe=redactor.known(script))
        findings.append(msgspec.structs.replace(finding, example=example))
    return msgspec.structs.replace(report, findings=tuple(findings))


def _literal_secrets(identities: Iterable[Identity]) -> Iterable[str]:
    """Credentials that stand in identities as they are, not as references to the environment."""
    for identity in identities:
        for _, value in (*identity.headers, *identity.query, *identity.cookies):
            yield from (value, value.partition(" ")[2])
        if identity.basic is not None:
            yield identity.basic.password


def shrink_findings(
    report: Report,
    results: Iterable[Result],
    cases: Iterable[Case],
    spec: Spec,
    attempt: Callable[[Case], Result | None],
) -> tuple[Report, tuple[Case, ...]]:
    """The report with the smallest request as example of each finding that `results` show, and those cases.

    `attempt` executes a case (None: nothing is left to spend). Findings that do not show again stay as they are.
    """
    from testops_lib.run.shrink import shrink

    judge, known = RequestJudge(spec), {case.id: case for case in cases}
    shown = {result.case: result for result in results}
    findings, kept = list(report.findings), {}
    for index, finding in enumerate(findings):
        case, result = known.get(finding.example.case), shown.get(finding.example.case)
        found = [each for each in result.failures if fingerprint_of(each) == finding.fingerprint] if result else []
        if case is None or not found:
            continue
        small = shrink(case, found[0], judge, attempt)
        if small is None:
            continue
        kept[small.case.id] = small.case
        again = analyze_results([small.result], target=report.target, run=report.run, operations={})
        alike = next((each for each in again.findings if each.fingerprint == finding.fingerprint), None)
        if alike is not None:
            findings[index] = msgspec.structs.replace(finding, example=alike.example, message=alike.message)
    return msgspec.structs.replace(report, findings=tuple(findings)), tuple(kept.values())


def write_report(report: Report, results: Iterable[Result], folder: Path) -> None:
    """`report.json`, `report.html`, `junit.xml` and `wfc.json` in `folder`.

    The results are taken one by one, those of a case one after the other; none is kept in memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_bytes(reporting.render_json(report))
    (folder / "report.html").write_text(reporting.render_html(report), "utf-8")
    with closing(reporting.JunitWriter(report)) as junit, closing(reporting.WfcWriter(report)) as wfc:
        for result in results:
            junit.add(result)
            wfc.add(result)
        for writer, name in ((junit, "junit.xml"), (wfc, "wfc.json")):
            with (folder / name).open("wb") as file:
                writer.write(file)


class Outcome(Value, frozen=True, kw_only=True):
    """How a run ended. Success is `passed` and nothing else: the gate ran and passed."""

    verdict: Literal["passed", "failed", "none"]
    """none: the run came to no verdict, because it could not be done or somebody ended it."""
    reasons: tuple[str, ...] = ()
    """Of the closed gate; or why there is no verdict."""


def gate(run: str, settings: Settings) -> Outcome:
    """The stored verdict of the run, for whoever knows that it has just been analyzed."""
    with Store(settings.need_dsn()) as store:
        report = store.report(run)
    if report is None or report.gate is None:
        return Outcome(verdict="none", reasons=("the run was not analyzed",))
    return Outcome(verdict="passed" if report.gate.passed else "failed", reasons=report.gate.reasons)


def notify(
    run: str, settings: Settings, *, outcome: Outcome, target: str = "", environ: Mapping[str, str] = os.environ
) -> str:
    """Tells people how the run ended, also when it ended early; gives the text.

    `target` is whose run it was, for a run that ended before it was registered.
    """
    report = settled_for = None
    with Store(settings.need_dsn()) as store:
        try:
            about = store.run(run)
            target, settled_for = about.target, about.settled
            report = store.report(run) if outcome.verdict != "none" else None
        except StoreError as error:
            _LOG.info("%s", error)
    page = f"{settings.ui_url}/dags/testops_run/runs/{quote(run)}" if settings.ui_url else ""
    if report is not None:
        told = notifying.message(report, page)
    else:
        told = notifying.unfinished(target or "?", run, page, reasons=outcome.reasons)
    notifying.log(told)
    urls = [settings.webhook_url]
    if settled_for is not None:
        urls.append(targets.expand(settled_for.target.notify.webhook, environ, where="notify.webhook"))
    elif target and (settings.targets_dir / f"{target}.yaml").is_file():
        own = targets.find(settings.targets_dir, target).notify.webhook
        urls.append(targets.expand(own, environ, where="notify.webhook"))
    for url in filter(None, urls):
        sent = notifying.webhook(url, told, secret=settings.webhook_secret)
        _LOG.info("webhook: %s", "sent" if sent.sent else f"not sent: {printable(sent.error)}")
    return told.text


# --------------------------------------------------------------------------- the fleet


class HandedOut(Value, frozen=True, kw_only=True):
    """The orders of a run that wait for the fleet."""

    orders: dict[str, str]
    """Order id -> batch; empty: nothing is missing."""
    outcomes: str
    """Where their outcomes begin (`0:120`)."""
    expires: datetime


def hand_out(
    run: str,
    settings: Settings,
    *,
    plan: str,
    wanted: Sequence[str],
    results: str,
    attempt: int = 1,
    try_number: int = 1,
    down_since: float = 0,
    alone: bool = False,
) -> HandedOut:
    """Orders the wanted batches from the fleet; from the second try on only those that hold a case without a verdict.

    `alone`: one after the other. `down_since`: when the target was found down before (seconds since the epoch).

    Raises:
        ExpiredBatchError: the plan or a batch is no longer in Kafka.
        BusError: a delivery failed; repeating is harmless.
    """
    line = bus(settings)
    policy = line.read_plan(batches.parse(plan), run, deadline_s=settings.kafka_timeout_s)[0].policy
    cut = {text: batches.parse(text) for text in wanted}
    missing = list(cut)
    if try_number > 1:
        judged = line.judged_cases(batches.parse_positions(results), run, attempt=attempt)
        missing = [text for text, batch in cut.items() if any(case not in judged for case in line.case_ids(batch, run))]
    width = 1 if alone else policy.concurrency
    partitions = fleet.spread(run, len(cut), partitions=line.order_partitions(), concurrency=width)
    rate, records = policy.requests_per_second, sum(cut[text].end - cut[text].first for text in missing)
    needed_s = records * batches.REQUESTS_PER_CASE / rate if rate > 0 else 0
    expires = datetime.now(UTC) + timedelta(seconds=settings.fleet_wait_s + needed_s)
    outcomes = batches.positions_text(line.outcomes_position())
    orders = {
        text: BatchOrder(
            id=uuid.uuid4().hex,
            run=run,
            plan=plan,
            batch=text,
            attempt=attempt,
            results=results,
            outcomes=outcomes,
            partitions=partitions,
            try_number=try_number,
            down_since=down_since,
            expires=expires,
        )
        for text in missing
    }
    places = {text: partitions[number % len(partitions)] for number, text in enumerate(cut)}
    line.publish_orders((places[text], order) for text, order in orders.items())
    return HandedOut(orders={order.id: text for text, order in orders.items()}, outcomes=outcomes, expires=expires)


def withdraw(run: str, orders: Iterable[str], settings: Settings) -> None:
    """Tells the fleet that nobody waits for these orders: who has not begun with one leaves it.

    Raises:
        BusError: a delivery failed.
    """
    bus(settings).tell(
        *(Ended(order=order, run=run, member="airflow", code=1, text="withdrawn by Airflow") for order in orders)
    )
