"""Gemini, by google-genai: the only module that knows it. `rules` is the generator that needs no key."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from testops_lib.errors import GenerateError
from testops_lib.generate.llm.prompt import Prompt
from testops_lib.generate.llm.propose import Answer, Limits, Provider, Unavailable, Usage
from testops_lib.model import Value

SOURCE = "gemini"

_WHERE_KEYS_COME_FROM = "https://aistudio.google.com/apikey"
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "anyio")
"""Packages whose exceptions mean that the way to the service failed."""
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_NEVER = float("inf")
_DELETE_S = 10
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


class GeminiSettings(Value, frozen=True, kw_only=True):
    """How Gemini is asked. The key stands in no `repr`."""

    api_key: str
    model: str = "gemini-2.5-flash"
    base_url: str = ""
    """Another address that speaks the Gemini protocol; "": Google's."""
    timeout_s: float = 180
    """Of one attempt."""
    temperature: float = 0.2
    seed: int = 1
    thinking_budget: int | None = None
    """Tokens; 0: no thinking, None: the model decides."""
    cache_from_tokens: int = 2048
    """What calls have in common is cached from so many tokens on. (Gemini itself asks for 1,024 to 4,096, by model; one
    that is refused as too small is sent whole.)"""
    cache_s: int = 600
    """How long a cache is ordered for; it is deleted at the end in any case."""
    limits: Limits = Limits()

    def __repr__(self) -> str:
        return f"GeminiSettings(model={self.model!r}, base_url={self.base_url!r}, …)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("model", self.model), ("base_url", self.base_url)]


def provider(settings: GeminiSettings) -> Provider:
    """How `propose` asks it. Whoever connects to it learns by GenerateError that the key or the model is refused."""
    return Provider(
        source=SOURCE,
        model=settings.model,
        limits=settings.limits,
        wishes={"temperature": settings.temperature, "seed": settings.seed, "thinking": settings.thinking_budget},
        connect=lambda: _connected(settings),
    )


@asynccontextmanager
async def _connected(settings: GeminiSettings) -> AsyncIterator[_Gemini]:
    if not settings.api_key:
        raise GenerateError(
            "no API key",
            where="Gemini",
            next_step=f"set GEMINI_API_KEY in the environment or in .env (a key: {_WHERE_KEYS_COME_FROM}),"
            " or use the source `rules`, which needs none",
        )
    if not settings.api_key.isascii() or not settings.api_key.isprintable() or " " in settings.api_key:
        raise GenerateError(
            "the API key holds characters that no key has (a space, a line break?)",
            where="Gemini",
            next_step="set GEMINI_API_KEY to the key alone",
        )
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
    model = _Gemini(client, settings)
    try:
        yield model
    finally:
        await model.forget()
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
        self._making = asyncio.Lock()
        self._caches: dict[str, str] = {}
        """What calls share -> the name of its cache."""
        self._cache_from: float = settings.cache_from_tokens or _NEVER
        self._owed = Usage()
        """What making caches took and no answer has been charged with yet."""

    def extra(self, prompt: Prompt) -> Usage:
        """The cache that a call may have to make first: its tokens are billed once more, and their storage."""
        if not self._cacheable(prompt) or (prompt.shared in self._caches and self._owed == Usage()):
            return Usage()
        tokens = len((prompt.system + prompt.shared).encode("utf-8", "replace"))
        return Usage(input_tokens=tokens, stored_token_hours=tokens * self._settings.cache_s / 3600)

    async def ask(self, prompt: Prompt, schema: dict[str, Any], *, max_output_tokens: int) -> Answer:
        trouble: Exception
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                cache = await self._cache(prompt) if self._cacheable(prompt) else ""
                try:
                    response = await self._generate(prompt, schema, max_output_tokens, cache)
                except Exception as error:
                    if not cache or not _is_gone(error):
                        raise
                    self._caches.pop(prompt.shared, None)
                    self._cache_from = _NEVER  # it ended before us; what is left to do is little
                    response = await self._generate(prompt, schema, max_output_tokens, "")
            owed, self._owed = self._owed, Usage()
            return _answer(response, owed)
        except Exception as error:
            trouble = self._translated(error)
            if not self._tells(error):
                raise trouble from error
        # the cause tells the key, so it is not even kept as context
        raise trouble

    async def _generate(self, prompt: Prompt, schema: dict[str, Any], max_output_tokens: int, cache: str) -> Any:
        from google.genai import types

        settings = self._settings
        config = types.GenerateContentConfig(
            response_mime_type="application/json",
            response_json_schema=schema,
            max_output_tokens=max_output_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        if settings.thinking_budget is not None:
            config.thinking_config = types.ThinkingConfig(thinking_budget=settings.thinking_budget)
        if cache:
            config.cached_content = cache
        else:
            config.system_instruction = prompt.system
        contents = prompt.user if cache else prompt.shared + prompt.user
        return await self._client.aio.models.generate_content(model=settings.model, contents=contents, config=config)

    # ------------------------------------------------------------------ cached content

    def _cacheable(self, prompt: Prompt) -> bool:
        """Calls have so much in common that a cache pays: from two calls on, which is why `shared` is given at all."""
        return bool(prompt.shared) and _tokens(prompt.system + prompt.shared) >= self._cache_from

    async def _cache(self, prompt: Prompt) -> str:
        """The name of the cache of what the prompt shares, made if need be; "": there is none.

        A service that refuses is not asked again for one as small, or not at all: everything works without.
        """
        async with self._making:
            if prompt.shared in self._caches or not self._cacheable(prompt):
                return self._caches.get(prompt.shared, "")
            from google.genai import types
            from google.genai.errors import APIError

            config = types.CreateCachedContentConfig(
                system_instruction=prompt.system, contents=prompt.shared, ttl=f"{self._settings.cache_s}s"
            )
            most = self.extra(prompt)
            try:
                made = await self._client.aio.caches.create(model=self._settings.model, config=config)
            except (APIError, ValueError) as error:
                too_small = getattr(error, "code", None) == 400
                self._cache_from = 2 * _tokens(prompt.system + prompt.shared) if too_small else _NEVER
                return ""
            if not made.name:
                self._cache_from = _NEVER
                return ""
            self._caches[prompt.shared] = str(made.name)
            counted = made.usage_metadata.total_token_count if made.usage_metadata is not None else None
            tokens = counted if counted and counted > 0 else most.input_tokens
            self._owed = Usage(
                input_tokens=self._owed.input_tokens + tokens,
                stored_token_hours=self._owed.stored_token_hours + tokens * self._settings.cache_s / 3600,
            )
            return str(made.name)

    async def forget(self) -> None:
        """Deletes the caches; one that cannot be deleted ends by itself."""
        for name in self._caches.values():
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_DELETE_S):
                    await self._client.aio.caches.delete(name=name)
        self._caches.clear()

    # ------------------------------------------------------------------ errors

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
        if isinstance(error, ValueError | RecursionError):
            # what the SDK says of an answer that is no JSON, not of its shape (pydantic's errors are ValueErrors) or
            # nested too deeply
            return Unavailable(f"an answer that is not the protocol's: {type(error).__name__}", maybe_billed=True)
        return GenerateError(
            f"the SDK failed: {type(error).__name__}: {self._clean(str(error))}",
            where="Gemini",
            next_step="check the version of google-genai against requirements.txt",
        )

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
            next_step = "ask for less at once: lower TESTOPS_MODEL_OPERATIONS_PER_CALL"
        else:
            next_step = "check GEMINI_MODEL and GEMINI_BASE_URL, or use the source `rules`"
        return GenerateError(f"{head}: {message}", where=f"Gemini ({self.name})", next_step=next_step)

    def _clean(self, text: str) -> str:
        """A vendor's text for people: one line, short, without the key."""
        text = " ".join(text.replace(self._settings.api_key, "***").split())
        return text if len(text) <= 300 else text[:299] + "…"


def _tokens(text: str) -> int:
    """About how many: four characters each."""
    return len(text) // 4


def _is_gone(error: Exception) -> bool:
    """A refusal that speaks of a cache."""
    return getattr(error, "code", None) in (400, 403, 404) and "cache" in str(error).lower()


def _answer(response: Any, cache: Usage) -> Answer:
    """Text, cost (with that of caches made for it) and reason of the end. Thoughts and all that is no text are left
    out.
    """
    counted = response.usage_metadata
    usage: Usage | None = None
    if counted is not None and counted.prompt_token_count:
        usage = Usage(
            input_tokens=cache.input_tokens + _count(counted.prompt_token_count, counted.tool_use_prompt_token_count),
            output_tokens=_count(counted.candidates_token_count, counted.thoughts_token_count),
            cached_tokens=_count(counted.cached_content_token_count),
            stored_token_hours=cache.stored_token_hours,
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


def _count(*numbers: int | None) -> int:
    return sum(max(0, number or 0) for number in numbers)


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
