"""What all adapters share: settings, the connection, the attempt after a refusal, errors in our words.

An adapter says only what is special to its provider: how a request is written, how an answer and a refusal are read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

from testops_lib.errors import GenerateError
from testops_lib.generate.llm import transport
from testops_lib.generate.llm.prompt import Prompt
from testops_lib.generate.llm.provider import Answer, Model, ModelLimits, Provider, Unavailable, Usage
from testops_lib.model import Value

_TRY_AGAIN = frozenset({408, 409, 425, 429})
_NEVER_AGAIN = frozenset({501, 505})
"""Statuses from 500 on that another attempt does not change."""


class ModelSettings(Value, frozen=True, kw_only=True):
    """How a language model is asked. The key stands in no `repr`."""

    api_key: str = ""
    model: str
    base_url: str = ""
    timeout_s: float = 180
    """Of one attempt."""
    temperature: float = 0.2
    seed: int = 1
    limits: ModelLimits = ModelLimits()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r}, base_url={shown_url(self.base_url)!r}, …)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("model", self.model), ("base_url", shown_url(self.base_url))]


class Service(Value, frozen=True, kw_only=True):
    """A provider's names in messages to people."""

    source: str
    """Of the cases, of the settings' variables (`GEMINI_API_KEY`) and of the optional dependencies."""
    name: str
    package: str
    """Which the adapter imports."""
    keys_from: str = ""
    """Where people get a key."""
    without_key: str
    """What people without a key can do."""
    address_hint: str = ""
    """What people get wrong in the base URL."""

    def variable(self, name: str) -> str:
        """The environment variable of a setting: `GEMINI_MODEL`."""
        return f"{self.source.upper()}_{name}"


class Refused(Exception):
    """The service answered with an error.

    `parameter`: what in the request it is about. `key_refused`: because of the key, whatever the status. `next_step`:
    what helps; then another attempt does not.
    """

    def __init__(
        self,
        status: int | None,
        code: str,
        message: str,
        *,
        parameter: str = "",
        delay_s: float | None = None,
        key_refused: bool = False,
        next_step: str = "",
    ) -> None:
        self.status, self.code, self.message = status, code, message
        self.parameter, self.delay_s = parameter, delay_s
        self.key_refused, self.next_step = key_refused, next_step
        super().__init__(status, code, message)

    @property
    def passing(self) -> bool:
        """Another attempt may succeed."""
        if self.next_step:
            return False
        status = self.status
        return status is None or status in _TRY_AGAIN or (status >= 500 and status not in _NEVER_AGAIN)


Request = TypeVar("Request")
"""A provider's own form of a request."""


class Adapter(Protocol[Request]):
    """What is special to one provider. Errors of its SDK do not leave it; those of the transport do."""

    where: str
    """The service, in messages."""

    def extra(self, prompt: Prompt) -> Usage:
        """An upper bound of what a call costs besides its prompt and its answer."""

    async def write(self, prompt: Prompt, schema: dict[str, Any], max_output_tokens: int) -> Request: ...

    async def send(self, request: Request) -> Answer:
        """The answer to the request.

        Raises:
            Refused: the service answered with an error.
            Unavailable: the service answered with something that is not its protocol.
        """

    def adapt(self, refused: Refused, request: Request) -> bool:
        """Whether the adapter will write the request in another way, which the service may accept."""


def provider(
    service: Service,
    settings: ModelSettings,
    open_adapter: Callable[[Any], AbstractAsyncContextManager[Adapter[Any]]],
    **sampling: Any,
) -> Provider:
    """The provider, ready to be connected to.

    Connecting raises GenerateError when the settings cannot work. `open_adapter` gets an `httpx2.AsyncClient`.
    `sampling` are settings besides temperature and seed that shape an answer.
    """

    @asynccontextmanager
    async def connect() -> AsyncIterator[Model]:
        _check_key(service, settings.api_key)
        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(transport.open_client(settings.timeout_s))
                adapter = await stack.enter_async_context(open_adapter(client))
            except ImportError as error:
                raise GenerateError(
                    f"the package {service.package} is not installed",
                    where=service.name,
                    next_step=f"pip install 'ai-testops[{service.source}]'",
                ) from error
            yield _Connected(service, settings, adapter)

    return Provider(
        source=service.source,
        model=settings.model,
        limits=settings.limits,
        sampling={"temperature": settings.temperature, "seed": settings.seed, **sampling},
        connect=connect,
    )


def missing_key(service: Service) -> GenerateError:
    """The error of a service that needs a key and got none."""
    return GenerateError(
        "no API key",
        where=service.name,
        next_step=f"set {service.variable('API_KEY')} in the environment or in .env{_keys_from(service)},"
        f" or {service.without_key}",
    )


def _check_key(service: Service, key: str) -> None:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise GenerateError(
            "the API key holds characters that no key has (a space, a line break?)",
            where=service.name,
            next_step=f"set {service.variable('API_KEY')} to the key alone",
        )


class _Connected(Generic[Request]):
    """A `Model` made of an adapter: repeats what the adapter rewrites, translates errors, keeps the key out of them."""

    def __init__(self, service: Service, settings: ModelSettings, adapter: Adapter[Request]) -> None:
        self._service, self._settings, self._adapter = service, settings, adapter
        self.source = service.source
        self.name = settings.model
        self.secrets: tuple[str, ...] = (settings.api_key,) if settings.api_key else ()

    def extra(self, prompt: Prompt) -> Usage:
        return self._adapter.extra(prompt)

    async def ask(self, prompt: Prompt, schema: dict[str, Any], *, max_output_tokens: int) -> Answer:
        while True:
            failure: Exception
            cause: BaseException | None
            try:
                async with asyncio.timeout(self._settings.timeout_s):
                    request = await self._adapter.write(prompt, schema, max_output_tokens)
                    return await self._adapter.send(request)
            except Refused as refused:
                if not refused.passing and self._adapter.adapt(refused, request):
                    continue
                failure, cause = self._refusal(refused), refused.__cause__
            except (Unavailable, GenerateError) as error:
                failure, cause = error, error.__cause__
            except Exception as error:
                failure, cause = self._failure(error), error
            if self._holds_key(cause) or self._holds_key(failure):
                cause = failure.__context__ = None
            # raised outside of `except`, which would make the exception that may hold the key its context
            raise failure from cause

    def _holds_key(self, error: BaseException | None) -> bool:
        while error is not None:
            if self._settings.api_key and self._settings.api_key in f"{error!r} {error}":
                return True
            error = error.__cause__ or error.__context__
        return False

    def _failure(self, error: Exception) -> Exception:
        """What an exception of the transport or of the SDK means to us."""
        if (failure := transport.unavailable(error, self._settings.timeout_s)) is not None:
            return failure
        if transport.is_unusable_address(error):
            return GenerateError(
                f"could not be asked: {type(error).__name__}",
                where=self._adapter.where,
                next_step=f"check {self._service.variable('BASE_URL')}",
            )
        return GenerateError(
            f"the client failed: {type(error).__name__}: {self._clean(str(error))}",
            where=self._adapter.where,
            next_step=f"check the version of {self._service.package} against requirements.txt",
        )

    def _refusal(self, refused: Refused) -> Exception:
        status, code, message = refused.status, self._clean(refused.code), self._clean(refused.message)
        head = " ".join(part for part in (str(status or ""), code) if part)
        if refused.passing:
            return Unavailable(head, delay_s=refused.delay_s)
        service = self._service
        if refused.next_step:
            next_step = refused.next_step
        elif status is not None and 300 <= status < 400:
            message = "it redirects, which is not followed"
            next_step = f"set {service.variable('BASE_URL')} to the final address"
        elif refused.key_refused or status in (401, 403):
            next_step = f"check {service.variable('API_KEY')} in the environment or in .env{_keys_from(service)}"
        elif status == 404:
            model, base_url = service.variable("MODEL"), service.variable("BASE_URL")
            next_step = f"check {model} (now {self.name!r}) and {base_url}{service.address_hint}"
        elif status == 413 or any(word in message.lower() for word in ("context", "token")):
            next_step = "ask for less at once: lower TESTOPS_MODEL_OPERATIONS_PER_CALL"
        else:
            model, base_url = service.variable("MODEL"), service.variable("BASE_URL")
            next_step = f"check {model} and {base_url}, or use the source `rules`"
        return GenerateError(
            f"{head}: {message or 'no reason is given'}", where=self._adapter.where, next_step=next_step
        )

    def _clean(self, text: str) -> str:
        """A vendor's text for people: one line, short, without the key."""
        if self._settings.api_key:
            text = text.replace(self._settings.api_key, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= 300 else text[:299] + "…"


def _keys_from(service: Service) -> str:
    return f" (a key: {service.keys_from})" if service.keys_from else ""


def completed(text: str, *, usage: Usage | None, finish: str, at_limit: str) -> Answer:
    """The answer with this text; without a text it is blocked, unless it ended at the output limit (`at_limit`)."""
    cut = finish == at_limit
    if not text and not cut:
        return Answer(text="", usage=usage, blocked=finish if finish.lower() not in ("", "stop") else "no text")
    return Answer(text=text, usage=usage, cut=cut)


def plain_word(value: Any) -> str:
    """A short word of letters and digits, whatever a server wrote there."""
    return re.sub(r"[^A-Za-z0-9_]", "", str(value))[:40]


def shown_url(url: str) -> str:
    """An address for people: without what may be a credential."""
    return re.sub(r"//[^/@]*@", "//", url).partition("?")[0][:200]
