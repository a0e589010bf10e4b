"""Any server that speaks OpenAI's chat completions: OpenAI, vLLM, Ollama, llama.cpp, …

By httpx2, on which the package `openai` stands itself: what is needed of it is one POST of JSON. Its import takes 49 MB
and 0.9 s where httpx2 takes 14 MB and 0.1 s, and its retries, its environment variables and its reading of a compatible
server's odd answers would have to be switched off or worked around.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from testops_lib.errors import GenerateError
from testops_lib.generate.llm import adapter
from testops_lib.generate.llm.adapter import ModelSettings, Refused, Service, completed, plain_word, shown_url
from testops_lib.generate.llm.prompt import Prompt, with_schema
from testops_lib.generate.llm.provider import Answer, Provider, Unavailable, Usage
from testops_lib.generate.llm.transport import retry_after

SERVICE = Service(
    source="openai",
    name="OpenAI",
    package="httpx2",
    without_key="OPENAI_BASE_URL to a server that needs none, or use the source `rules`",
    address_hint=" (it usually ends in /v1)",
)
BASE_URL = "https://api.openai.com/v1"

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


class OpenAISettings(ModelSettings, frozen=True, kw_only=True):
    """How an OpenAI-compatible server is asked. `api_key` "": none is sent; OpenAI itself needs one."""

    model: str = "gpt-5-mini"
    base_url: str = BASE_URL
    strict: bool | None = None
    """OpenAI's strict schemas, in which each field must be written, null where it is not meant; None: at OpenAI alone.
    A local server takes any schema, and its model need not write what it does not mean."""


def provider(settings: OpenAISettings) -> Provider:
    """The server, ready to be connected to. Connecting raises GenerateError when the settings cannot work."""
    return adapter.provider(SERVICE, settings, lambda client: _opened(settings, client))


@asynccontextmanager
async def _opened(settings: OpenAISettings, client: Any) -> AsyncIterator[_Server]:
    try:
        address = urlsplit(settings.base_url)
        usable = address.scheme in ("http", "https") and bool(address.hostname) and "@" not in address.netloc
        usable = usable and not address.query and not address.fragment and (address.port is None or address.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise GenerateError(
            "is no address of a server",
            where="OPENAI_BASE_URL",
            next_step="write it like http://127.0.0.1:11434/v1, without a user",
        )
    if not settings.model:
        raise GenerateError("no model is named", where="OPENAI_MODEL", next_step="set it, e.g. to gpt-5-mini")
    if not settings.api_key and _is_official(settings):
        raise adapter.missing_key(SERVICE)
    yield _Server(client, settings)


def _is_official(settings: OpenAISettings) -> bool:
    return urlsplit(settings.base_url).hostname == urlsplit(BASE_URL).hostname


class _Server:
    """The adapter of a server of chat completions. It remembers what the server refuses."""

    def __init__(self, client: Any, settings: OpenAISettings) -> None:
        self._client = client
        self._model = settings.model
        self._url = f"{settings.base_url.rstrip('/')}/chat/completions"
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "ai-testops"}
        if settings.api_key:
            self._headers["Authorization"] = f"Bearer {settings.api_key}"
        self.where = f"{shown_url(settings.base_url)} ({settings.model})"
        self._formats = list(_FORMATS)
        self._most_output = float("inf")
        official = _is_official(settings)
        self._strict = official if settings.strict is None else settings.strict
        self._limit_names = list(reversed(_LIMIT_NAMES) if official else _LIMIT_NAMES)
        self._optional: dict[str, Any] = {"temperature": settings.temperature, "seed": settings.seed}

    def extra(self, prompt: Prompt) -> Usage:
        """Nothing: these servers cache by themselves, at no charge."""
        return Usage()

    async def write(self, prompt: Prompt, schema: dict[str, Any], max_output_tokens: int) -> dict[str, Any]:
        form = self._formats[0]
        system = prompt.system if form == "json_schema" else with_schema(prompt.system, schema)
        sent: dict[str, Any] = {
            "model": self._model,
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

    async def send(self, request: dict[str, Any]) -> Answer:
        body = bytearray()
        async with self._client.stream("POST", self._url, json=request, headers=self._headers) as response:
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _MAX_BYTES:
                    raise Unavailable(f"an answer of more than {_MAX_BYTES:,} bytes", maybe_billed=True)
        if 200 <= response.status_code < 300:
            return _answer(bytes(body))
        raise _refused(response.status_code, response.headers, bytes(body))

    def adapt(self, refused: Refused, request: dict[str, Any]) -> bool:
        """With one thing less that the server does not take.

        Judged by what was sent: another call may have learnt the same meanwhile.
        """
        if refused.status not in (400, 404, 415, 422, 501):
            return False
        text = f"{refused.message} {refused.code} {refused.parameter}".lower()
        limit = next(name for name in _LIMIT_NAMES if name in request)
        other = next(name for name in _LIMIT_NAMES if name != limit)
        if _names(limit, text) and (_names(other, text) or "unsupported" in text or "extra input" in text):
            if limit != self._limit_names[0]:
                return True
            if len(self._limit_names) > 1:
                self._limit_names = self._limit_names[1:]
                return True
        for name in sorted(request.keys() & {"temperature", "seed"}):
            if _names(name, text):
                self._optional.pop(name, None)
                return True
        form = request.get("response_format", {}).get("type", "text")
        if form != "text" and any(word in text for word in _FORMAT_WORDS):
            if form == self._formats[0]:
                self._formats = self._formats[1:]
            return True
        too_long = _names(limit, text) or "completion tokens" in text or "context length" in text
        if refused.status in (400, 422) and too_long and request[limit] > _LEAST_OUTPUT:
            self._most_output = min(self._most_output, max(_LEAST_OUTPUT, request[limit] // 2))
            return True
        return False


def _refused(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    message, code, parameter = _error(body)
    no_credit = status == 429 and code in ("insufficient_quota", "billing_hard_limit_reached")
    return Refused(
        status,
        code,
        message,
        parameter=parameter,
        delay_s=retry_after(headers),
        next_step="check the account's credit" if no_credit else "",
    )


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
    finish = plain_word(choice.get("finish_reason") or "")
    if message.get("refusal"):
        return Answer(text="", usage=usage, blocked="refusal")
    text = _THOUGHT.sub("", _content(message.get("content")))
    # what a filter cut off is no answer, even when it left a text
    return completed("" if finish == "content_filter" else text, usage=usage, finish=finish, at_limit="length")


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
    error = document.get("error", document) if isinstance(document, dict) else None
    if isinstance(error, str):
        return error, "", ""
    if not isinstance(error, dict):
        return "", "", ""
    message = error.get("message") or error.get("detail") or ""
    code = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
    texts = (message if isinstance(message, str) else json.dumps(message), code, error.get("param"))
    message, code, parameter = (text[:2000] if isinstance(text, str) else "" for text in texts)
    return message, code, parameter


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
