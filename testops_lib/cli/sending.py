"""What is common to the commands that send something: options, credentials, limits, progress."""

from __future__ import annotations

import base64
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from testops_lib import target as targets
from testops_lib.cli.document import pairs
from testops_lib.cli.output import say
from testops_lib.errors import SettingsError
from testops_lib.execute import Engine, run
from testops_lib.http.address import is_url
from testops_lib.model import Case, Contract, Identity, Plan, Policy, Result, Tls
from testops_lib.verdict.repetition import Repetitions

_LINE_EVERY_S = 0.5
_SLOW_LINE_EVERY_S = 10.0

_STOP_S = 1.0
"""What is in flight when somebody stops it may take this long; then comes its cleanup."""


def identities(options: Mapping[str, Any]) -> tuple[Identity, ...]:
    users = targets.load_auth(options["auth"]) if options["auth"] else ()
    headers, query = pairs(options["headers"], "-H"), []
    if options.get("user"):
        headers.append(("Authorization", basic(options["user"])))
    for pair in options["queries"]:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise SettingsError("is no query parameter", where="-Q", next_step="write -Q api_key=…")
        query.append((name, value))
    if not headers and not query:
        return users
    return tuple(
        msgspec.structs.replace(user, headers=(*user.headers, *headers), query=(*user.query, *query))
        for user in users or (Identity(name="default"),)
    )


def basic(user: str) -> str:
    """The header's value for `user:password`; without a colon the password is asked for."""
    if ":" not in user:
        user = f"{user}:{click.prompt(f'Password of {user}', hide_input=True, err=True)}"
    return f"Basic {base64.b64encode(user.encode()).decode()}"


def tls_of(options: Mapping[str, Any]) -> Tls:
    """The certificates that the options name."""
    if options["key"] and not options["cert"]:
        raise SettingsError("needs --cert", where="--key", next_step="give the certificate that the key belongs to")
    return Tls(ca=options["cacert"] or "", cert=options["cert"] or "", key=options["key"] or "")


_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def proxy_of(options: Mapping[str, Any], base_url: str) -> str:
    """The proxy that is asked for; says so when the environment names one that will not be used."""
    proxy = str(options["proxy"])
    if proxy and not is_url(proxy):
        raise SettingsError(f"{proxy!r} is no URL", where="--proxy", next_step="write http://proxy.example.com:3128")
    named = next((name for name in _PROXIES if os.environ.get(name)), "")
    if named and not proxy:
        from urllib.parse import urlsplit
        from urllib.request import proxy_bypass

        host = urlsplit(base_url).hostname or ""
        if not host.startswith("127.") and host not in ("localhost", "::1") and not proxy_bypass(host):
            say(f"{named} is set and not used: requests go straight to {host} (--proxy URL changes that)", err=True)
    return proxy


def private(spec: str, base_url: str) -> bool:
    """Whether private addresses may be called: yes, unless a document from elsewhere points there by itself."""
    from urllib.parse import urlsplit

    from testops_lib.http.address import refusal

    if base_url or not is_url(spec):
        return True
    host = urlsplit(spec).hostname or ""
    return host == "localhost" or bool(refusal(host, allow_private=False) and not refusal(host, allow_private=True))


def policy_of(options: Mapping[str, Any], *, allow_private: bool) -> Policy:
    return Policy(
        breaker_wait_s=0,
        foreign=options["foreign"],
        allow_private=allow_private,
        concurrency=options["concurrency"],
        requests_per_second=options["rate"],
        max_response_ms=options["max_response_ms"],
        verify_tls=not options["insecure"],
    )


@contextmanager
def _progress(total: Callable[[], int]) -> Iterator[Any]:
    """A function that takes each result: a bar on a terminal, a plain line every tenth part otherwise."""
    started, done, failed = time.monotonic(), 0, 0
    if not sys.stderr.isatty():
        said_at, said = 0.0, 0

        def line() -> None:
            nonlocal said_at, said
            said_at, said = time.monotonic(), done
            say(f"{done}/{total()} cases, {failed} failed, {said_at - started:.0f} s", err=True)

        def plain(result: Result) -> None:
            nonlocal done, failed
            done, failed = done + 1, failed + (result.verdict == "failed")
            pause = time.monotonic() - said_at
            if (done >= said + total() // 10 and pause >= _LINE_EVERY_S) or pause >= _SLOW_LINE_EVERY_S:
                line()

        yield plain
        if done != said:
            line()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("executing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("execute", total=total(), failed=0)

        def rich(result: Result) -> None:
            nonlocal failed
            failed += result.verdict == "failed"
            bar.update(task, advance=1, failed=failed, total=total())

        yield rich


def execute_all(
    plan: Plan,
    contracts: Mapping[str, Contract],
    cases: Iterable[Case] | Callable[[Engine], AsyncIterator[list[Case]]],
    *,
    total: Callable[[], int],
    run_id: str,
    budget: tuple[int, float] = (0, 0),
    repeating: Repetitions | None = None,
    proxy: str = "",
    results: list[Result] | None = None,
) -> tuple[list[Result], bool]:
    """The results, and whether somebody stopped it before the end (Ctrl-C): what was created is still cleaned up.

    With `repeating` failed cases are repeated alone afterwards; the repetitions are among the results.

    Args:
        cases: or what gives the engine its cases.
        total: how many cases there are, as far as is known now.
        results: where they go, one by one.
    """
    engine = Engine(plan, contracts, run=run_id, max_requests=budget[0], max_time_s=budget[1], proxy=proxy)
    results = [] if results is None else results
    with _progress(total) as tell:

        def on_result(result: Result) -> None:
            results.append(result)
            if not result.repeat:
                tell(result)

        stop_at = (signal.SIGINT, signal.SIGTERM)
        source = cases(engine) if callable(cases) else cases
        run(engine, source, on_result, signals=stop_at, grace_s=_STOP_S, repeating=repeating)
    if repeating is not None:
        results += repeating.left_out
    if slowed := str(engine.concurrency):
        say(slowed, err=True)
    if engine.stopped:
        done = sum(not result.repeat for result in results)
        say(f"stopped: {done} of {total()} cases were executed", err=True)
    return results, engine.stopped


def new_run_id() -> str:
    return datetime.now(UTC).strftime("local-%Y%m%dT%H%M%S.%fZ")


def tries(
    plan: Plan,
    contracts: Mapping[str, Contract],
    run_id: str,
    options: Any,
    *,
    spent: Iterable[Result] = (),
    began: datetime | None = None,
) -> Callable[[Case], Result | None]:
    """What executes one case within what is left of the options' requests and time; None when nothing is."""
    from testops_lib.run.shrink import attempts

    most, seconds = options["max_requests"], options["max_time"]
    left = most - sum(result.requests for result in spent) if most else 0
    if most and left <= 0:
        return lambda case: None
    proxy = str(options["proxy"])
    passed = (datetime.now(UTC) - began).total_seconds() if began else 0.0
    until = time.monotonic() + seconds - passed if seconds else float("inf")
    execute_one = attempts(Engine(plan, contracts, run=f"{run_id}-shrink", max_requests=left, proxy=proxy))
    return lambda case: execute_one(case) if time.monotonic() < until else None
