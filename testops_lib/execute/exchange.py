"""A step's request and its answer: as which user it goes out, what may not go out, and where redirects lead."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urljoin

from msgspec import structs

from testops_lib.errors import CaseError, TargetError
from testops_lib.execute.attempt import STOPPED, Attempt, CaseEnded, StepRecord
from testops_lib.execute.foreign import ForeignGuard
from testops_lib.execute.identity import NOTHING, Credentials, Identities, LoginError, apply, overridden
from testops_lib.execute.limits import RunLimits
from testops_lib.execute.lockout import Lockout
from testops_lib.execute.prepare import prepare, sent_instead
from testops_lib.execute.retries import RetryingSender
from testops_lib.execute.shutdown import Shutdown
from testops_lib.http.answer import REDIRECTS, Answer
from testops_lib.http.failure import TransportFailure
from testops_lib.http.request import PreparedRequest
from testops_lib.http.url import Origin, allowed, escape_target, origin
from testops_lib.model import INVALID_CREDENTIALS, NO_CREDENTIALS, Contract, Plan, Request, Step
from testops_lib.redact import sensitive

_CREDENTIAL_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


class StepExchanger:
    """Sends the requests of steps as their users, and follows redirects as far as the policy allows."""

    def __init__(
        self,
        plan: Plan,
        contracts: Mapping[str, Contract],
        base_url: str,
        base: Origin,
        identities: Identities,
        guard: ForeignGuard,
        limits: RunLimits,
        shutdown: Shutdown,
        sender: RetryingSender,
    ) -> None:
        self._policy, self._base_url, self._base = plan.policy, base_url, base
        self._shows_certificate = bool(plan.tls.cert)
        self._identities, self._guard = identities, guard
        self._lockout = Lockout(contracts)
        self._limits, self._shutdown, self._sender = limits, shutdown, sender

    async def exchange(
        self, attempt: Attempt, step: Step, *, cleanup: bool = False
    ) -> tuple[StepRecord, Answer | TransportFailure]:
        """The request of a step, with its credentials, redirects and one repeat after a 401; and what was answered.

        Raises:
            CaseEnded: it must not be sent, or the case cannot go on for what became of it.
            TargetError: the credentials of the target file cannot be used.
        """
        # A case that ends its session must not end the others', so it logs in for itself.
        session_of = attempt.case.id if attempt.case.last else ""
        try:
            plain = prepare(self._base_url, step.request, attempt.captured)
            if refused := self._guard.refusal(attempt.case, step, plain, attempt.created, attempt.token):
                attempt.withheld += 1
                raise CaseEnded("skipped", refused)
            credentials = self._identities.ready(step.identity, session_of=session_of)
            if credentials is None:
                login = self._sender.login_sender(attempt)
                credentials = await self._identities.credentials(step.identity, login, session_of=session_of)
            user, prepared = None, plain
            if credentials is not NOTHING:
                user = self._shared_user(attempt, step, credentials)
                if user is not None and (why := self._lockout.lost(user)):
                    raise CaseEnded("errored", why)
                prepared = apply(plain, credentials, step.request)
            if self._shows_certificate and step.identity in (NO_CREDENTIALS, INVALID_CREDENTIALS):
                prepared = structs.replace(prepared, anonymous=True)
        except CaseError as error:
            raise CaseEnded("errored", f"refused: {error.what}") from error
        except LoginError as error:
            raise CaseEnded("errored", STOPPED if self._shutdown.killed else str(error)) from error
        instead = sent_instead(step.operation, plain.method, plain.url, self._base_url)
        record = StepRecord(step, prepared, instead)
        attempt.records.append(record)
        began = time.monotonic() if user is not None else 0.0
        outcome = await self._sender.send(attempt, record, prepared, cleanup=cleanup, step=step)
        if isinstance(outcome, Answer) and outcome.status == 401 and credentials.session:
            if step.identity != INVALID_CREDENTIALS and not overridden(credentials, step.request):
                renewed = await self._renewed(attempt, step, credentials, session_of)
                if renewed is not None:
                    record.prepared = apply(plain, renewed, step.request)
                    outcome = await self._sender.send(attempt, record, record.prepared, cleanup=cleanup)
        if isinstance(outcome, Answer) and outcome.status in REDIRECTS:
            outcome = await self._follow(attempt, record, prepared, outcome, credentials, cleanup=cleanup)
        if isinstance(outcome, TransportFailure):
            record.error, record.elapsed_ms = outcome.reason, round(outcome.elapsed_ms, 3)
            return record, outcome
        attempt.created.note(step, plain, outcome)
        record.answer, record.status, record.elapsed_ms = outcome, outcome.status, outcome.elapsed_ms
        if user is not None and not cleanup:
            if self._lockout.note(user, step, plain, outcome.status, began=began, ended=time.monotonic()):
                await self._look_for_lockout(attempt, step, user, thorough=outcome.status == 401)
        return record, outcome

    async def _renewed(self, attempt: Attempt, step: Step, used: Credentials, session_of: str) -> Credentials | None:
        """Credentials of a new login after a 401, with a request set aside to try them; None: there are none."""
        login = self._sender.login_sender(attempt)
        renewed = await self._identities.renewed(step.identity, used, login, session_of=session_of)
        return renewed if renewed is not None and self._limits.reserve_extra(attempt) else None

    def _shared_user(self, attempt: Attempt, step: Step, credentials: Credentials) -> str | None:
        """Whose credentials are sent that other cases use, too; None: wrong ones, or a session of the case's own."""
        if step.identity == INVALID_CREDENTIALS or overridden(credentials, step.request):
            return None
        return None if attempt.case.last and credentials.session else self._identities.named(step.identity)

    async def _look_for_lockout(self, attempt: Attempt, step: Step, user: str, *, thorough: bool) -> None:
        """Ends the case where the credentials have stopped working."""
        login = self._sender.login_sender(attempt)

        async def probe(request: Request, prepared: PreparedRequest) -> int:
            try:
                used = await self._identities.credentials(step.identity, login)
                outcome = await login(apply(prepared, used, request))
                if isinstance(outcome, Answer) and outcome.status == 401 and used.session:
                    renewed = await self._identities.renewed(step.identity, used, login, at_once=True)
                    outcome = await login(apply(prepared, renewed, request)) if renewed is not None else outcome
            except LoginError:
                return 401
            return outcome.status if isinstance(outcome, Answer) else 0

        if why := await self._lockout.look(user, step.operation, probe, thorough=thorough):
            raise CaseEnded("errored", why)

    async def _follow(
        self,
        attempt: Attempt,
        record: StepRecord,
        prepared: PreparedRequest,
        first: Answer,
        credentials: Credentials,
        *,
        cleanup: bool,
    ) -> Answer | TransportFailure:
        """What a redirect leads to, as far as the policy follows it."""
        outcome: Answer | TransportFailure = first
        for _ in range(self._policy.follow_redirects):
            if isinstance(outcome, TransportFailure) or outcome.status not in REDIRECTS:
                break
            location = next((value for name, value in outcome.headers if name.lower() == "location"), "")
            if not location or not self._limits.reserve_extra(attempt):
                break
            try:
                prepared = self._redirected(prepared, location, outcome.status, credentials)
            except CaseEnded as ended:
                record.error = ended.reason
                raise
            outcome = await self._sender.send(attempt, record, prepared, cleanup=cleanup)
        return outcome

    def _redirected(
        self, prepared: PreparedRequest, location: str, status: int, credentials: Credentials
    ) -> PreparedRequest:
        """The request a redirect asks for, if the policy lets it go there; elsewhere it goes without credentials."""
        try:
            url = escape_target(urljoin(prepared.url, location)).partition("%23")[0]
            here, there = origin(prepared.url), origin(url)
        except (ValueError, TargetError) as error:
            raise CaseEnded("errored", "refused: redirect to something that is no http(s) URL") from error
        if not allowed(there, self._base, self._policy.hosts):
            raise CaseEnded("errored", f"refused: redirect to {there}, which the policy does not allow")
        headers, method, body = prepared.headers, prepared.method, prepared.body
        if here != there:
            secret = _CREDENTIAL_HEADERS | {name.lower() for name, _ in credentials.headers}
            headers = tuple(p for p in headers if p[0].lower() not in secret and not sensitive(p[0]))
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, body = "GET", None
            headers = tuple(p for p in headers if p[0].lower() != "content-type")
        return structs.replace(prepared, url=url, headers=headers, method=method, body=body)
