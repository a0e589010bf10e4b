"""`drift` and `cases`: what changed in a document, and what people do to a target's suite."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from testops_lib import settings as configuration
from testops_lib import suite as suites
from testops_lib.cli.exit_codes import NOTHING_FOUND
from testops_lib.cli.output import say
from testops_lib.settings import SOURCES

if TYPE_CHECKING:
    from testops_lib.model import Case, Step
    from testops_lib.suite import Member


@click.command(
    epilog="""
\b
Examples:
  testops drift openapi-old.yaml https://api.example.com/openapi.json
  testops drift --target shop --fail-on breaking
"""
)
@click.argument("old", required=False, metavar="[OLD")
@click.argument("new", required=False, metavar="NEW]")
@click.option(
    "--target", default="", help="Instead: the document that this target's last run read, and its present one."
)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option(
    "--fail-on",
    type=click.Choice(["nothing", "breaking", "any"]),
    default="nothing",
    show_default=True,
    help="What gives exit code 1.",
)
def drift(old: str | None, new: str | None, target: str, as_json: bool, fail_on: str) -> int:
    """What changed between two OpenAPI documents (URLs or files), and whether it breaks a client."""
    from testops_lib import spec as specs
    from testops_lib.run import editing
    from testops_lib.spec import drift as drifts
    from testops_lib.text import visible

    if bool(target) == bool(old) or bool(old) != bool(new):
        raise click.UsageError("give either two documents or --target NAME")
    if target:
        changes = editing.drift(configuration.read(), target)
    else:
        changes = drifts.compare(specs.load(str(old)), specs.load(str(new)))
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(changes), indent=2) + b"\n")
    else:
        for line in drifts.lines(changes):
            say(visible(line).replace("\n", " ")[:400])
    return int(changes.breaking if fail_on == "breaking" else not changes.empty if fail_on == "any" else False)


# --------------------------------------------------------------------------- cases


@click.group()
def cases() -> None:
    """A target's suite: look at its cases, edit, approve, set aside, generate again (needs TESTOPS_DSN).

    An ID is what `list` prints, or the id of a case in a report; its first digits will do.
    """


def _by(command: Any) -> Any:
    """Who changes something, and why."""
    who = click.option("--who", default="", help="Who does it. Default: the user of this machine.")
    return who(click.option("--why", default="", help="A sentence for the history.")(command))


def _user(who: str) -> str:
    if who:
        return who
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


@cases.command(
    name="list",
    epilog="""
\b
Examples:
  testops cases list --target shop --status draft
  testops cases list --target shop --operation 'GET /products*' --source gemini
""",
)
@click.option("--target", required=True, help="A target's name; or a suite's, such as shop@safe.")
@click.option("--operation", "-o", "operations", multiple=True, metavar="GLOB", help="Only these; repeatable.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(suites.STATUSES), help="Repeatable.")
@click.option("--source", "sources", multiple=True, type=click.Choice(SOURCES), help="Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line.")
def list_cases(target: str, as_json: bool, **wanted: Any) -> None:
    """One line each: id, status, source, operation, name."""
    from testops_lib.run import editing

    members = editing.list_members(configuration.read(), target, **wanted)
    _print(members, as_json)


@cases.command(epilog="\b\nExample:\n  testops cases conflicts --target shop\n")
@click.option("--target", required=True, help="A target's name.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line.")
def conflicts(target: str, as_json: bool) -> None:
    """The cases that a person changed and whose source now makes something that contradicts it."""
    from testops_lib.run import editing

    _print([member for member in editing.list_members(configuration.read(), target) if member.offered], as_json)


def _print(members: list[Member], as_json: bool) -> None:
    from testops_lib.text import one_line, plural

    if as_json:
        for member in members:
            click.echo(msgspec.json.encode(member))
        return
    for member in members:
        marks = [member.status] + ["edited"] * member.edited + ["conflict"] * bool(member.offered)
        head = f"{member.id}  {','.join(marks):11}  {member.source:8}"
        say(f"{head}  {one_line(member.operation)}  {one_line(member.key)}")
    say(plural(len(members), "case"))


@cases.command(epilog="\b\nExamples:\n  testops cases show 3f2a\n  testops cases show 3f2a --json > case.json\n")
@click.argument("name", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="The case alone, as a document to edit.")
@click.option("--offered", is_flag=True, help="With --json: the new case of a conflict.")
def show(name: str, as_json: bool, offered: bool) -> None:
    """A case: its steps and checks, its history, its conflict."""
    from testops_lib.errors import StoreError
    from testops_lib.run import editing
    from testops_lib.text import one_line

    shown = editing.show(configuration.read(), name)
    if offered and shown.offered is None:
        raise StoreError("has no conflict", where=f"case {shown.member.id}", next_step="leave out --offered")
    if as_json:
        case = shown.offered if offered and shown.offered else shown.case
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(case), indent=2) + b"\n")
        return
    member = shown.member
    say(f"{member.id}  {one_line(shown.case.name)}")
    say(f"  {one_line(member.operation)}, {shown.case.intent}, of {one_line(member.suite)}, from {member.source}")
    state = f"  {member.status}" + (", edited" if member.edited else "")
    say(f"{state}; case {member.current}")
    for line in _described(shown.case):
        say(f"  {one_line(line, 400)}")
    if shown.offered is not None:
        say(f"  conflict: {one_line(member.why, 1000)}")
        say("  the new one:")
        for line in _described(shown.offered):
            say(f"    {one_line(line, 400)}")
    for change in shown.changes:
        why = f": {one_line(change.why, 400)}" if change.why else ""
        who = one_line(change.who) or "the generation"
        say(f"  {change.at:%Y-%m-%d %H:%M:%SZ}  {who}: {one_line(change.what)}{why}")


def _described(case: Case) -> Iterator[str]:
    """The steps for people, a line each."""
    for at, step in enumerate(case.steps, 1):
        yield from _step(f"{at}.", step)
    for step in case.cleanup:
        yield from _step("cleanup:", step)


def _step(head: str, step: Step) -> Iterator[str]:
    request = step.request
    query = "&".join(f"{name}={value}" for name, value in request.query)
    identity = f"  as {step.identity}" if step.identity else ""
    yield f"{head} {request.method} {request.path}{'?' + query if query else ''}{identity}"
    for name, value in request.headers:
        yield f"   {name}: {value}"
    if request.body is not None:
        yield f"   {msgspec.json.encode(request.body).decode()}"
    for check in step.checks:
        said = {
            key: value
            for key, value in msgspec.to_builtins(check).items()
            if key not in ("check", "basis", "quote", "doubt")
        }
        rest = " ".join(f"{key}={value}" for key, value in said.items())
        name = str(check.__struct_config__.tag)
        advisory = ", advisory" if check.basis == "guess" else ""
        yield f"   checks {name} {rest}".rstrip() + f" ({check.basis}{advisory})"
    for capture in step.captures:
        yield f"   keeps {{{capture.name}}} from {capture.source} {capture.path}".rstrip()


@cases.command(
    epilog="\b\nExample:\n  testops cases show 3f2a --json > case.json\n  testops cases edit 3f2a --with case.json\n"
)
@click.argument("name", metavar="ID")
@click.option(
    "--with",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The case as JSON.",
)
@_by
def edit(name: str, file: Path, who: str, why: str) -> None:
    """Let another case take the place of this one. It survives when its source is asked again."""
    from testops_lib.run import editing

    member = editing.edit(configuration.read(), name, file.read_bytes(), who=_user(who), why=why)
    say(f"{member.id} runs case {member.current}")


@cases.command(
    epilog="""
\b
Examples:
  testops cases resolve 3f2a --theirs
  testops cases resolve 3f2a --with case.json --why 'both changes by hand'
"""
)
@click.argument("name", metavar="ID")
@click.option("--ours", is_flag=True, help="The edited case goes on.")
@click.option("--theirs", is_flag=True, help="The new case takes its place.")
@click.option(
    "--with",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="This one does.",
)
@_by
def resolve(name: str, ours: bool, theirs: bool, file: Path | None, who: str, why: str) -> None:
    """Decide a conflict between an edited case and what its source makes now."""
    from testops_lib.run import editing

    if ours + theirs + bool(file) != 1:
        raise click.UsageError("give one of --ours, --theirs and --with FILE")
    document = file.read_bytes() if file else b""
    take: Any = "ours" if ours else "theirs" if theirs else "other"
    member = editing.resolve_conflict(configuration.read(), name, take, document=document, who=_user(who), why=why)
    say(f"{member.id} runs case {member.current}")


def _mover(word: str, help_text: str) -> click.Command:
    @click.command(
        name=word, help=help_text, epilog=f"\b\nExample:\n  testops cases {word} 3f2a 91c0 --why 'as agreed'\n"
    )
    @click.argument("names", metavar="ID...", nargs=-1, required=True)
    @_by
    def command(names: tuple[str, ...], who: str, why: str) -> None:
        from testops_lib.run import editing

        to: Any = word
        for member in editing.move(configuration.read(), names, to, who=_user(who), why=why):
            say(f"{member.id} is {member.status}")

    return command


for _word, _help in (
    ("approve", "Let drafts, or cases rejected before, run."),
    ("reject", "Take cases out of the suite; they do not come back as they are."),
    ("quarantine", "Let cases run without counting for the gate: what they alone show is advisory."),
    ("unquarantine", "Let quarantined cases count again."),
):
    cases.add_command(_mover(_word, _help))


@cases.command(epilog="\b\nExample:\n  testops cases promote 3f2a --why 'the team agreed'\n")
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@_by
def promote(names: tuple[str, ...], who: str, why: str) -> None:
    """Let the advisory checks of cases count: they rest on your word from now on."""
    from testops_lib.run import editing

    for name in names:
        member = editing.promote(configuration.read(), name, who=_user(who), why=why)
        say(f"{member.id} runs case {member.current}")


@cases.command(
    epilog="""
\b
Examples:
  testops cases regenerate --target shop --operation 'POST /orders' --source gemini --instruction 'Think of returns.'
  testops cases regenerate --target shop --case 3f2a --case 91c0
"""
)
@click.option("--target", required=True, help="A target file's name.")
@click.option("--operation", "-o", "operations", multiple=True, metavar="GLOB", help="These; repeatable.")
@click.option("--case", "names", multiple=True, metavar="ID", help="Or what replaces these; repeatable.")
@click.option("--source", "sources", multiple=True, type=click.Choice(SOURCES), help="Default: the target's.")
@click.option("--instruction", default="", help="What a model is asked besides; it changes none of its rules.")
def regenerate(target: str, operations: tuple[str, ...], names: tuple[str, ...], **wishes: Any) -> None:
    """Generate again, changed or not. Edits survive; with a review, what is new waits as drafts."""
    from testops_lib.run import regenerate
    from testops_lib.text import one_line, plural

    if bool(operations) == bool(names):
        raise click.UsageError("give either --operation GLOB or --case ID")
    for regeneration in regenerate.regenerate(
        configuration.read(), target, operations=operations, cases=names, **wishes
    ):
        made = f"{plural(regeneration.cases, 'case')} for {plural(regeneration.operations, 'operation')}"
        say(f"{regeneration.source}: {made}, {plural(regeneration.calls, 'call')}")
        for note in regeneration.notes:
            say(f"  {one_line(note, 400)}")


@cases.command(epilog="\b\nExample:\n  testops cases shrink nightly_shop_20261125T020000 --max-requests 500\n")
@click.argument("run", metavar="RUN")
@click.option("--max-requests", type=click.IntRange(0), default=0, help="Of all tries, exactly. 0: no limit.")
@click.option("--max-time", type=click.FloatRange(0), default=0, metavar="SECONDS", help="0: no limit.")
@_by
def shrink(run: str, who: str, why: str, **limits: Any) -> int:
    """Find the smallest request for each regression that a run of a target found, by trying, and keep it instead.

    Sends requests from here to the target, under its policy and as its users.
    """
    from testops_lib.cli.sending import new_run_id, tries
    from testops_lib.run import regenerate
    from testops_lib.text import one_line, plural

    settings = configuration.read()
    options = {**limits, "proxy": settings.proxy}
    shrunk = regenerate.shrink_regressions(
        settings,
        run,
        lambda plan, contracts: tries(plan, contracts, new_run_id(), options),
        who=_user(who),
        why=why,
    )
    for regression in shrunk:
        member = regression.member
        say(f"{member.id}  {one_line(member.operation)}: {one_line(regression.message)}\n  {regression.curl}")
    say(f"{plural(len(shrunk), 'regression')} smaller now")
    return NOTHING_FOUND
