"""Gemini, by google-genai: the only module that knows it. `rules` is the generator that needs no key."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from testops_lib.errors import GenerateError
from testops_lib.generate import Generated
from testops_lib.generate.prompt import Prompt
from testops_lib.generate.propose import Answer, Limits, PlannedCalls, Unavailable, Usage, propose
from testops_lib.generate.propose import plan as plan_calls
from testops_lib.model import Policy, Value
from testops_lib.spec.operation import Operation, Spec

SOURCE = "gemini"

_WHERE_KEYS_COME_FROM = "https://aistudio.google.com/apikey"
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "anyio")
"""Packages whose exceptions mean that the way to the service failed."""
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


class GeminiSettings(Value, frozen=True, kw_only=True):
    """How Gemini is asked. The key stands in no `repr`."""

    api_key: str
    model: str = "gemini-2.5-flash"
    base_url: str = ""
    """Another address that speaks the Gemini protocol; "": Google's."""
    timeout_s: float = 60
    """Of one attempt."""
    concurrency: int = 4
    attempts: int = 4
    backoff_s: float = 1.0
    max_wait_s: float = 60
    max_calls: int = 0
    max_tokens_total: int = 0
    max_output_tokens: int = 32_768
    cases_per_operation: int = 6
    operations_per_call: int = 4
    temperature: float = 0.2
    seed: int = 1
    thinking_budget: int | None = None
    """Tokens; 0: no thinking, None: the model decides."""

    def __repr__(self) -> str:
        return f"GeminiSettings(model={self.model!r}, base_url={self.base_url!r}, …)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("model", self.model), ("base_url", self.base_url)]

    @property
    def limits(self) -> Limits:
        return Limits(
            concurrency=self.concurrency, attempts=self.attempts, backoff_s=self.backoff_s, max_wait_s=self.max_wait_s,
            max_calls=self.max_calls, max_tokens_total=self.max_tokens_total, max_output_tokens=self.max_output_tokens,
            cases_per_operation=self.cases_per_operation, operations_per_call=self.operations_per_call,
        )  # fmt: skip


def generate(
    spec: Spec, operations: Sequence[Operation], *, settings: GeminiSettings, policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None, identities: Sequence[str] = (), instruction: str = "",
) -> Generated:  # fmt: skip
    """Valid cases that Gemini proposed for the operations, and what they cost.

    Cases stand in the order of the operations, each operation's in the model's order, positive ones first. Not for use
    inside a running event loop; there, await `generate_async`.

    Raises:
        GenerateError: no key, the key or the model is refused, or not one call was answered.
    """
    return asyncio.run(
        generate_async(
            spec, operations, settings=settings, policy=policy, values=values, identities=identities,
            instruction=instruction,
        )
    )  # fmt: skip


async def generate_async(
    spec: Spec, operations: Sequence[Operation], *, settings: GeminiSettings, policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None, identities: Sequence[str] = (), instruction: str = "",
) -> Generated:  # fmt: skip
    """As `generate`, within an event loop."""
    async with _connected(settings) as model:
        return await propose(
            model, spec, operations, limits=settings.limits, policy=policy, values=values, identities=identities,
            instruction=instruction,
        )  # fmt: skip


def plan(
    spec: Spec, operations: Sequence[Operation], *, settings: GeminiSettings, policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None, identities: Sequence[str] = (),
) -> PlannedCalls:  # fmt: skip
    """What `generate` would ask for and its estimated tokens, without a key and without calling anyone."""
    return plan_calls(spec, operations, limits=settings.limits, policy=policy, values=values, identities=identities)


@asynccontextmanager
async def _connected(settings: GeminiSettings) -> AsyncIterator[_Gemini]:
    if not settings.api_key:
        raise GenerateError(
            "no API key", where="Gemini",
            next_step=f"set GEMINI_API_KEY in the environment or in .env (a key: {_WHERE_KEYS_COME_FROM}),"
            " or use the source `rules`, which needs none",
        )  # fmt: skip
    if not settings.api_key.isascii() or not settings.api_key.isprintable() or " " in settings.api_key:
        raise GenerateError(
            "the API key holds characters that no key has (a space, a line break?)", where="Gemini",
            next_step="set GEMINI_API_KEY to the key alone",
        )  # fmt: skip
    try:
        from google import genai
    except ImportError as error:
        raise GenerateError(
            "the package google-genai is not installed", where="Gemini", next_step="pip install 'ai-testops[gemini]'"
        ) from error
    # An own client: left to itself the SDK takes aiohttp wherever that happens to be installed, with other errors and
    # timeouts, and it follows redirects with the key.
    transport = importlib.import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")
    pool = transport.AsyncClient(timeout=settings.timeout_s, follow_redirects=False)
    options: dict[str, Any] = {"timeout": int(settings.timeout_s * 1000), "httpx_async_client": pool}
    if settings.base_url:
        options["base_url"] = settings.base_url
    # vertexai is said explicitly: the SDK would read it from the environment and then send other credentials
    client = genai.Client(api_key=settings.api_key, vertexai=False, http_options=genai.types.HttpOptions(**options))
    try:
        yield _Gemini(client, settings)
    finally:
        await client.aio.aclose()
        await pool.aclose()
        client.close()


class _Gemini:
    """The seam: one prompt in, one answer out; vendor errors become ours."""

    source = SOURCE

    def __init__(self, client: Any, settings: GeminiSettings) -> None:
        self._client = client
        self._settings = settings
        self.name = settings.model
        self.secrets: tuple[str, ...] = (settings.api_key,)

    async def ask(self, prompt: Prompt, schema: dict[str, Any], *, max_output_tokens: int) -> Answer:
        from google.genai import types

        settings = self._settings
        config = types.GenerateContentConfig(
            system_instruction=prompt.system, response_mime_type="application/json", response_json_schema=schema,
            max_output_tokens=max_output_tokens, temperature=settings.temperature, seed=settings.seed,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )  # fmt: skip
        if settings.thinking_budget is not None:
            config.thinking_config = types.ThinkingConfig(thinking_budget=settings.thinking_budget)
        trouble: Exception
        try:
            async with asyncio.timeout(settings.timeout_s):
                response = await self._client.aio.models.generate_content(
                    model=settings.model, contents=prompt.user, config=config
                )
            return _answer(response)
        except Exception as error:
            trouble = self._translated(error)
            if not self._tells(error):
                raise trouble from error
        # the cause tells the key, so it is not even kept as context
        raise trouble

    def _tells(self, error: BaseException) -> bool:
        seen: BaseException | None = error
        while seen is not None:
            if self._settings.api_key in f"{seen!r} {seen}":
                return True
            seen = seen.__cause__ or seen.__context__
        return False

    def _translated(self, error: Exception) -> Exception:
        """What a vendor's exception means to us."""
        from google.genai.errors import APIError

        if isinstance(error, APIError):
            return self._refusal(error.code, str(error.status or ""), str(error.message or ""), error.details)
        if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
            return Unavailable(f"no answer within {self._settings.timeout_s:g} s", maybe_billed=True)
        package = type(error).__module__.partition(".")[0]
        if isinstance(error, OSError) or package in _TRANSPORTS:
            return Unavailable(f"connection failed: {type(error).__name__}")
        if isinstance(error, ValueError):
            # what the SDK says of an answer that is no JSON or not of its shape (pydantic's errors are ValueErrors)
            return Unavailable(f"an answer that is not the protocol's: {type(error).__name__}")
        return GenerateError(
            f"the SDK failed: {type(error).__name__}: {self._clean(str(error))}", where="Gemini",
            next_step="check the version of google-genai against requirements.txt",
        )  # fmt: skip

    def _refusal(self, code: int | None, status: str, message: str, details: Any) -> Exception:
        message = self._clean(message)
        head = f"{code} {self._clean(status)}".strip()
        if code in _AGAIN or code is None or code >= 500:
            return Unavailable(head, delay_s=_retry_delay(details))
        key_refused = code in (401, 403) or "api key" in message.lower() or "API_KEY" in str(details)
        if key_refused:
            next_step = f"check GEMINI_API_KEY in the environment or in .env (a key: {_WHERE_KEYS_COME_FROM})"
        elif code == 404:
            next_step = f"check GEMINI_MODEL (now {self._settings.model!r}) and GEMINI_BASE_URL"
        elif code == 413 or "token" in message.lower():
            next_step = "ask for less at once: lower operations_per_call"
        else:
            next_step = "check GEMINI_MODEL and GEMINI_BASE_URL, or use the source `rules`"
        return GenerateError(f"{head}: {message}", where=f"Gemini ({self.name})", next_step=next_step)

    def _clean(self, text: str) -> str:
        """A vendor's text for people: one line, short, without the key."""
        text = " ".join(text.replace(self._settings.api_key, "***").split())
        return text if len(text) <= 300 else text[:299] + "…"


def _answer(response: Any) -> Answer:
    """Text, cost and reason of the end. Thoughts and anything that is not text are left out."""
    counted = response.usage_metadata
    usage = Usage()
    if counted is not None:
        usage = Usage(
            input_tokens=(counted.prompt_token_count or 0) + (counted.tool_use_prompt_token_count or 0),
            output_tokens=(counted.candidates_token_count or 0) + (counted.thoughts_token_count or 0),
            cached_tokens=counted.cached_content_token_count or 0,
        )
    candidate = next(iter(response.candidates or ()), None)
    if candidate is None:
        feedback = response.prompt_feedback
        reason = _name(feedback.block_reason) if feedback is not None and feedback.block_reason else "no candidates"
        return Answer(text="", usage=usage, blocked=reason)
    parts = (candidate.content.parts or ()) if candidate.content is not None else ()
    text = "".join(part.text for part in parts if part.text and not part.thought)
    finish = _name(candidate.finish_reason) if candidate.finish_reason is not None else ""
    if not text and finish != "MAX_TOKENS":
        return Answer(text="", usage=usage, blocked=finish if finish not in ("", "STOP") else "no text")
    return Answer(text=text, usage=usage, cut=finish == "MAX_TOKENS")


def _name(value: Any) -> str:
    """An SDK enum's value as a short plain word, whatever a server wrote there."""
    return re.sub(r"[^A-Za-z0-9_]", "", str(getattr(value, "value", value)))[:40]


def _retry_delay(details: Any) -> float | None:
    """Seconds of google.rpc.RetryInfo in an error's details, or None."""
    error = details.get("error", details) if isinstance(details, Mapping) else None
    listed = error.get("details") if isinstance(error, Mapping) else None
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, Mapping) and str(item.get("@type", "")).endswith("google.rpc.RetryInfo"):
            found = _SECONDS.fullmatch(str(item.get("retryDelay", "")))
            if found and len(found.group(1)) < 12:
                return float(found.group(1))
    return None
