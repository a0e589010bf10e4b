"""Any server that speaks OpenAI's chat completions: OpenAI, vLLM, Ollama, llama.cpp, …

By httpx2, on which the package `openai` stands itself: what is needed of it is one POST of JSON. Its import takes 49 MB
and 0.9 s where httpx2 takes 14 MB and 0.1 s, and its retries, its environment variables and its reading of a compatible
server's odd answers would have to be switched off or worked around.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from testops_lib.errors import GenerateError
from testops_lib.generate.llm.prompt import Prompt, with_schema
from testops_lib.generate.llm.propose import Answer, Limits, Provider, Unavailable, Usage
from testops_lib.model import Value

SOURCE = "openai"
BASE_URL = "https://api.openai.com/v1"

_AGAIN = frozenset({408, 409, 425, 429})
_MAX_BYTES = 8_000_000
"""Of one answer."""
_LEAST_OUTPUT = 1024
"""Output tokens below which a smaller limit is no way out of a refusal."""
_LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
"""The older name of the limit of an answer, and OpenAI's own: not every server knows this one, not every model that."""
_FORMAT_WORDS = ("response_format", "json_schema", "json_object", "structured output", "grammar")
_FORMATS = ("json_schema", "json_object", "text")
"""How the answer is held to its form, the strictest first; the model is told the schema in all but the first."""
_THOUGHT = re.compile(r"(?s)\A\s*<think>.*?</think>")
"""What local models that reason write before their answer."""


class OpenAISettings(Value, frozen=True, kw_only=True):
    """How an OpenAI-compatible server is asked. The key stands in no `repr`."""

    api_key: str = ""
    """"": none is sent; OpenAI itself needs one."""
    model: str = "gpt-5-mini"
    base_url: str = BASE_URL
    timeout_s: float = 180
    """Of one attempt."""
    temperature: float = 0.2
    seed: int = 1
    strict: bool | None = None
    """OpenAI's strict schemas, in which each field must be written, null where it is not meant; None: at OpenAI alone.
    A local server takes any schema, and its model need not write what it does not mean."""
    limits: Limits = Limits()

    def __repr__(self) -> str:
        return f"OpenAISettings(model={self.model!r}, base_url={_shown(self.base_url)!r}, …)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("model", self.model), ("base_url", _shown(self.base_url))]


def provider(settings: OpenAISettings) -> Provider:
    """How `propose` asks it. Whoever connects to it learns by GenerateError that the key or the model is refused."""
    return Provider(
        source=SOURCE,
        model=settings.model,
        limits=settings.limits,
        wishes={"temperature": settings.temperature, "seed": settings.seed},
        connect=lambda: _connected(settings),
    )


@asynccontextmanager
async def _connected(settings: OpenAISettings) -> AsyncIterator[_Server]:
    where = "OPENAI_BASE_URL"
    try:
        address = urlsplit(settings.base_url)
        usable = address.scheme in ("http", "https") and bool(address.hostname) and "@" not in address.netloc
        usable = usable and not address.query and not address.fragment and (address.port is None or address.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise GenerateError(
            "is no address of a server",
            where=where,
            next_step="write it like http://127.0.0.1:11434/v1, without a user",
        )
    if not settings.model:
        raise GenerateError("no model is named", where="OPENAI_MODEL", next_step="set it, e.g. to gpt-5-mini")
    if not settings.api_key and address.hostname == urlsplit(BASE_URL).hostname:
        raise GenerateError(
            "no API key",
            where="OpenAI",
            next_step="set OPENAI_API_KEY in the environment or in .env, or OPENAI_BASE_URL to a server that needs"
            " none, or use the source `rules`",
        )
    if settings.api_key and (
        not settings.api_key.isascii() or not settings.api_key.isprintable() or " " in settings.api_key
    ):
        raise GenerateError(
            "the API key holds characters that no key has (a space, a line break?)",
            where="OpenAI",
            next_step="set OPENAI_API_KEY to the key alone",
        )
    try:
        import httpx2
    except ImportError as error:
        raise GenerateError(
            "the package httpx2 is not installed", where="OpenAI", next_step="pip install 'ai-testops[openai]'"
        ) from error
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "ai-testops"}
    if settings.api_key:
        headers["Authorization"] = f"Bearer {settings.api_key}"
    # a redirect would take the key along to wherever it points
    async with httpx2.AsyncClient(timeout=settings.timeout_s, follow_redirects=False, headers=headers) as client:
        yield _Server(client, settings)


class _Server:
    """The seam: one prompt in, one answer out; vendor errors become ours. What the server refuses is remembered."""

    source = SOURCE

    def __init__(self, client: Any, settings: OpenAISettings) -> None:
        self._client = client
        self._settings = settings
        self._url = f"{settings.base_url.rstrip('/')}/chat/completions"
        self._where = f"{_shown(settings.base_url)} ({settings.model})"
        self.name = settings.model
        self.secrets: tuple[str, ...] = (settings.api_key,) if settings.api_key else ()
        self._formats = list(_FORMATS)
        self._most_output = float("inf")
        official = urlsplit(settings.base_url).hostname == urlsplit(BASE_URL).hostname
        self._strict = official if settings.strict is None else settings.strict
        self._limit_names = list(reversed(_LIMIT_NAMES) if official else _LIMIT_NAMES)
        self._optional: dict[str, Any] = {"temperature": settings.temperature, "seed": settings.seed}

    def extra(self, prompt: Prompt) -> Usage:
        """Nothing: these servers cache by themselves, at no charge."""
        return Usage()

    async def ask(self, prompt: Prompt, schema: dict[str, Any], *, max_output_tokens: int) -> Answer:
        while True:
            sent = self._request(prompt, schema, max_output_tokens)
            status, headers, body = await self._post(sent)
            if 200 <= status < 300:
                return _answer(body)
            refused = self._refusal(status, headers, body)
            if isinstance(refused, Unavailable) or not self._adapt(status, body, sent):
                raise refused

    def _request(self, prompt: Prompt, schema: dict[str, Any], max_output_tokens: int) -> dict[str, Any]:
        form = self._formats[0]
        system = prompt.system if form == "json_schema" else with_schema(prompt.system, schema)
        sent: dict[str, Any] = {
            "model": self.name,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": prompt.shared + prompt.user},
            ],
            "stream": False,
            self._limit_names[0]: int(min(max_output_tokens, self._most_output)),
            **self._optional,
        }
        if form == "json_schema":
            described = {
                "name": "cases",
                "strict": self._strict,
                "schema": _strict(schema) if self._strict else schema,
            }
            sent["response_format"] = {"type": form, "json_schema": described}
        elif form == "json_object":
            sent["response_format"] = {"type": form}
        return sent

    async def _post(self, sent: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer."""
        import httpx2

        trouble: Exception
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),
                self._client.stream("POST", self._url, json=sent) as response,
            ):
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > _MAX_BYTES:
                        raise Unavailable(f"an answer of more than {_MAX_BYTES:,} bytes", maybe_billed=True)
                return response.status_code, response.headers, bytes(body)
        except (TimeoutError, httpx2.ReadTimeout, httpx2.WriteTimeout):
            raise Unavailable(f"no answer within {self._settings.timeout_s:g} s", maybe_billed=True) from None
        except httpx2.TransportError as error:
            trouble = Unavailable(f"connection failed: {type(error).__name__}")
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            trouble = GenerateError(
                f"could not be asked: {type(error).__name__}", where=self._where, next_step="check OPENAI_BASE_URL"
            )
        # raised out here, without its cause: a protocol error may quote the header that holds the key
        raise trouble

    def _adapt(self, status: int, body: bytes, sent: dict[str, Any]) -> bool:
        """Whether the request can be made in another way that the server may take: one thing less each time.

        Judged by what was sent: another call may have learnt the same meanwhile.
        """
        if status not in (400, 404, 415, 422, 501):
            return False
        text = " ".join(_error(body)).lower()
        limit = next(name for name in _LIMIT_NAMES if name in sent)
        other = next(name for name in _LIMIT_NAMES if name != limit)
        if _names(limit, text) and (_names(other, text) or "unsupported" in text or "extra input" in text):
            if limit != self._limit_names[0]:
                return True
            if len(self._limit_names) > 1:
                self._limit_names = self._limit_names[1:]
                return True
        for name in sorted(sent.keys() & {"temperature", "seed"}):
            if _names(name, text):
                self._optional.pop(name, None)
                return True
        form = sent.get("response_format", {}).get("type", "text")
        if form != "text" and any(word in text for word in _FORMAT_WORDS):
            if form == self._formats[0]:
                self._formats = self._formats[1:]
            return True
        too_long = _names(limit, text) or "completion tokens" in text or "context length" in text
        if status in (400, 422) and too_long and sent[limit] > _LEAST_OUTPUT:
            self._most_output = min(self._most_output, max(_LEAST_OUTPUT, sent[limit] // 2))
            return True
        return False

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
        message, code, _parameter = _error(body)
        message, code = self._clean(message), self._clean(code)
        head = " ".join(part for part in (str(status), code) if part)
        if status == 429 and code in ("insufficient_quota", "billing_hard_limit_reached"):
            return GenerateError(f"{head}: {message}", where=self._where, next_step="check the account's credit")
        if status in _AGAIN or (status >= 500 and status not in (501, 505)):
            return Unavailable(head, delay_s=_retry_after(headers))
        if 300 <= status < 400:
            message, next_step = "it redirects, which is not followed", "set OPENAI_BASE_URL to the final address"
        elif status in (401, 403):
            next_step = "check OPENAI_API_KEY in the environment or in .env"
        elif status == 404:
            next_step = f"check OPENAI_MODEL (now {self.name!r}) and OPENAI_BASE_URL (it usually ends in /v1)"
        elif status == 413 or "context" in message.lower() or "token" in message.lower():
            next_step = "ask for less at once: lower TESTOPS_MODEL_OPERATIONS_PER_CALL"
        else:
            next_step = "check OPENAI_MODEL and OPENAI_BASE_URL, or use the source `rules`"
        return GenerateError(f"{head}: {message or 'no reason is given'}", where=self._where, next_step=next_step)

    def _clean(self, text: str) -> str:
        """A vendor's text for people: one line, short, without the key."""
        if self._settings.api_key:
            text = text.replace(self._settings.api_key, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= 300 else text[:299] + "…"


def _shown(url: str) -> str:
    """An address for people: without what may be a credential."""
    return re.sub(r"//[^/@]*@", "//", url).partition("?")[0][:200]


def _answer(body: bytes) -> Answer:
    """Text, cost and reason of the end.

    Raises:
        Unavailable: the body is no chat completion.
    """
    document = _json(body)
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list):
        raise Unavailable("an answer that is not the protocol's", maybe_billed=True)
    usage = _usage(document)
    choice = next(iter(choices), None)
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return Answer(text="", usage=usage, blocked="no choices")
    finish = re.sub(r"[^A-Za-z0-9_]", "", str(choice.get("finish_reason") or ""))[:40]
    if message.get("refusal"):
        return Answer(text="", usage=usage, blocked="refusal")
    text = _THOUGHT.sub("", _content(message.get("content")))
    if finish == "content_filter" or (not text and finish != "length"):
        return Answer(text="", usage=usage, blocked=finish if finish not in ("", "stop") else "no text")
    return Answer(text=text, usage=usage, cut=finish == "length")


def _content(content: Any) -> str:
    """The text of a message: a string, or a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _usage(document: Mapping[str, Any]) -> Usage | None:
    counted = document.get("usage")
    if not isinstance(counted, dict) or not _number(counted.get("prompt_tokens")):
        return None
    details = counted.get("prompt_tokens_details")
    return Usage(
        input_tokens=_number(counted.get("prompt_tokens")),
        output_tokens=_number(counted.get("completion_tokens")),
        cached_tokens=_number(details.get("cached_tokens")) if isinstance(details, dict) else 0,
    )


def _names(word: str, text: str) -> bool:
    return re.search(rf"(?<![a-z_]){word}(?![a-z_])", text) is not None


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else 0


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _error(body: bytes) -> tuple[str, str, str]:
    """Message, code and parameter of an error; servers write it in several ways."""
    document = _json(body)
    found = document.get("error", document) if isinstance(document, dict) else None
    if isinstance(found, str):
        return found, "", ""
    if not isinstance(found, dict):
        return "", "", ""
    message = found.get("message") or found.get("detail") or ""
    code = found.get("code") if isinstance(found.get("code"), str) else found.get("type")
    texts = (message if isinstance(message, str) else json.dumps(message), code, found.get("param"))
    message, code, parameter = (text[:2000] if isinstance(text, str) else "" for text in texts)
    return message, code, parameter


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, section 10.2.3), or None."""
    exact = headers.get("retry-after-ms", "")
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", exact):
        return float(exact) / 1000
    given = headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", given):
        return float(given)
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time()) if given else None
    except (ValueError, OverflowError):
        return None


def _strict(schema: Any) -> Any:
    """The schema in the dialect of strict structured output: each property required, the optional ones nullable."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: value for key, value in schema.items() if key not in ("properties", "items")}
    if "items" in schema:
        made["items"] = _strict(schema["items"])
    if "properties" in schema:
        needed = schema.get("required", [])
        made["properties"] = {
            name: _strict(part) if name in needed else _nullable(_strict(part))
            for name, part in schema["properties"].items()
        }
        made |= {"required": list(schema["properties"]), "additionalProperties": False}
    return made


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    made = schema | {"type": [schema["type"], "null"]}
    return made | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})
