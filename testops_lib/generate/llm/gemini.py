"""Gemini, by google-genai: the only module that knows it. `rules` is the generator that needs no key."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from testops_lib.generate.llm import adapter
from testops_lib.generate.llm.adapter import ModelSettings, Refused, Service, completed, plain_word
from testops_lib.generate.llm.prompt import Prompt
from testops_lib.generate.llm.provider import Answer, Provider, Unavailable, Usage

SERVICE = Service(
    source="gemini",
    name="Gemini",
    package="google-genai",
    keys_from="https://aistudio.google.com/apikey",
    without_key="use the source `rules`, which needs none",
)

_NEVER = float("inf")
_DELETE_S = 10
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


class GeminiSettings(ModelSettings, frozen=True, kw_only=True):
    """How Gemini is asked. `base_url`: another address that speaks its protocol; "": Google's."""

    model: str = "gemini-2.5-flash"
    thinking_budget: int | None = None
    """Tokens; 0: no thinking, None: the model decides."""
    cache_from_tokens: int = 2048
    """What calls have in common is cached from so many tokens on. (Gemini itself asks for 1,024 to 4,096, by model; one
    that is refused as too small is sent whole.)"""
    cache_s: int = 600
    """How long a cache is ordered for; it is deleted at the end in any case."""


def provider(settings: GeminiSettings) -> Provider:
    """Gemini, ready to be connected to. Connecting raises GenerateError when the settings cannot work."""
    return adapter.provider(
        SERVICE, settings, lambda client: _opened(settings, client), thinking=settings.thinking_budget
    )


@asynccontextmanager
async def _opened(settings: GeminiSettings, http_client: Any) -> AsyncIterator[_Gemini]:
    if not settings.api_key:
        raise adapter.missing_key(SERVICE)
    from google import genai

    # With a client of our own: left to itself the SDK takes aiohttp wherever that happens to be installed, with other
    # errors and timeouts, and it follows redirects with the key.
    options: dict[str, Any] = {"timeout": int(settings.timeout_s * 1000), "httpx_async_client": http_client}
    if settings.base_url:
        options["base_url"] = settings.base_url
    # vertexai is said explicitly: the SDK would read it from the environment and then send other credentials
    client = genai.Client(api_key=settings.api_key, vertexai=False, http_options=genai.types.HttpOptions(**options))
    gemini = _Gemini(client, settings)
    try:
        yield gemini
    finally:
        await gemini.delete_caches()
        await client.aio.aclose()
        client.close()


class _Request(NamedTuple):
    prompt: Prompt
    contents: str
    config: Any
    """`google.genai.types.GenerateContentConfig`."""


class _Gemini:
    """The adapter of Gemini: structured output, thinking, content cached for the calls that share it."""

    def __init__(self, client: Any, settings: GeminiSettings) -> None:
        self._client = client
        self._settings = settings
        self.where = f"{SERVICE.name} ({settings.model})"
        self._creating = asyncio.Lock()
        self._caches: dict[str, str] = {}
        """What calls share -> the name of its cache."""
        self._cache_from: float = settings.cache_from_tokens or _NEVER
        self._uncharged = Usage()
        """What making caches took and no answer has been charged with yet."""

    def extra(self, prompt: Prompt) -> Usage:
        """The cache that a call may have to make first: its tokens are billed once more, and their storage."""
        if not self._cacheable(prompt) or (prompt.shared in self._caches and self._uncharged == Usage()):
            return Usage()
        tokens = len((prompt.system + prompt.shared).encode("utf-8", "replace"))
        return Usage(input_tokens=tokens, stored_token_hours=tokens * self._settings.cache_s / 3600)

    async def write(self, prompt: Prompt, schema: dict[str, Any], max_output_tokens: int) -> _Request:
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
        if cache := await self._cache(prompt):
            config.cached_content = cache
            return _Request(prompt, prompt.user, config)
        config.system_instruction = prompt.system
        return _Request(prompt, prompt.shared + prompt.user, config)

    async def send(self, request: _Request) -> Answer:
        from google.genai.errors import APIError

        try:
            response = await self._client.aio.models.generate_content(
                model=self._settings.model, contents=request.contents, config=request.config
            )
        except APIError as error:
            message, details = str(error.message or ""), error.details
            raise Refused(
                error.code,
                str(error.status or ""),
                message,
                delay_s=_retry_delay(details),
                key_refused="api key" in message.lower() or "API_KEY" in str(details),
            ) from error
        except (ValueError, RecursionError) as error:
            # what the SDK says of an answer that is no JSON, not of its shape (pydantic's errors are ValueErrors) or
            # nested too deeply
            raise Unavailable(
                f"an answer that is not the protocol's: {type(error).__name__}", maybe_billed=True
            ) from error
        uncharged, self._uncharged = self._uncharged, Usage()
        return _answer(response, uncharged)

    def adapt(self, refused: Refused, request: _Request) -> bool:
        """Without the cache, when the refusal speaks of it: it ended before us, and what is left to do is little."""
        about_cache = refused.status in (400, 403, 404) and "cache" in f"{refused.code} {refused.message}".lower()
        if not request.config.cached_content or not about_cache:
            return False
        self._caches.pop(request.prompt.shared, None)
        self._cache_from = _NEVER
        return True

    # ------------------------------------------------------------------ cached content

    def _cacheable(self, prompt: Prompt) -> bool:
        """Calls have so much in common that a cache pays: from two calls on, which is why `shared` is given at all."""
        return bool(prompt.shared) and _tokens(prompt.system + prompt.shared) >= self._cache_from

    async def _cache(self, prompt: Prompt) -> str:
        """The name of the cache of what the prompt shares, made when it does not exist yet; "": there is none.

        After a refusal the service is not asked again for a cache as small, or for any cache at all.
        """
        if not self._cacheable(prompt):
            return ""
        async with self._creating:
            if prompt.shared in self._caches or not self._cacheable(prompt):
                return self._caches.get(prompt.shared, "")
            from google.genai import types
            from google.genai.errors import APIError

            config = types.CreateCachedContentConfig(
                system_instruction=prompt.system, contents=prompt.shared, ttl=f"{self._settings.cache_s}s"
            )
            upper_bound = self.extra(prompt)
            try:
                cache = await self._client.aio.caches.create(model=self._settings.model, config=config)
            except (APIError, ValueError) as error:
                too_small = getattr(error, "code", None) == 400
                self._cache_from = 2 * _tokens(prompt.system + prompt.shared) if too_small else _NEVER
                return ""
            if not cache.name:
                self._cache_from = _NEVER
                return ""
            self._caches[prompt.shared] = str(cache.name)
            counted = cache.usage_metadata.total_token_count if cache.usage_metadata is not None else None
            tokens = counted if counted and counted > 0 else upper_bound.input_tokens
            self._uncharged = Usage(
                input_tokens=self._uncharged.input_tokens + tokens,
                stored_token_hours=self._uncharged.stored_token_hours + tokens * self._settings.cache_s / 3600,
            )
            return str(cache.name)

    async def delete_caches(self) -> None:
        """Deletes the caches; one that cannot be deleted ends by itself."""
        for name in self._caches.values():
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_DELETE_S):
                    await self._client.aio.caches.delete(name=name)
        self._caches.clear()


def _tokens(text: str) -> int:
    """About how many: four characters each."""
    return len(text) // 4


def _answer(response: Any, cache: Usage) -> Answer:
    """Text, cost (with that of caches made for it) and reason of the end, without thoughts and all that is no text."""
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
        reason = _word(feedback.block_reason) if feedback is not None else ""
        return Answer(text="", usage=usage, blocked=reason or "no candidates")
    parts = (candidate.content.parts or ()) if candidate.content is not None else ()
    text = "".join(part.text for part in parts if part.text and not part.thought)
    return completed(text, usage=usage, finish=_word(candidate.finish_reason), at_limit="MAX_TOKENS")


def _count(*numbers: int | None) -> int:
    return sum(max(0, number or 0) for number in numbers)


def _word(value: Any) -> str:
    """An SDK enum's value as a word; None: ""."""
    return plain_word(getattr(value, "value", value)) if value is not None else ""


def _retry_delay(details: Any) -> float | None:
    """Seconds of google.rpc.RetryInfo in an error's details, or None."""
    error = details.get("error", details) if isinstance(details, Mapping) else None
    listed = error.get("details") if isinstance(error, Mapping) else None
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, Mapping) and str(item.get("@type", "")).endswith("google.rpc.RetryInfo"):
            seconds = _SECONDS.fullmatch(str(item.get("retryDelay", "")))
            if seconds and len(seconds.group(1)) < 12:
                return float(seconds.group(1))
    return None
