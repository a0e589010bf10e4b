"""Asks a scripted language model by one of the adapters, and reads the prompts that arrived."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from testops_lib.generate import Generated
from testops_lib.generate.feedback import Gap
from testops_lib.generate.llm import gemini, openai, propose
from testops_lib.generate.llm.provider import ModelLimits, Provider
from testops_lib.model import Policy
from testops_lib.spec.operation import Operation, Response, Spec
from tests.generation_specs import pets
from tests.llm_server import ModelServer, Protocol, Received, Reply

KEY = "AIzaTestKeyTestKeyTestKeyTestKeyTestKey9"


class Asking:
    """Asks a scripted server by one of the two adapters."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol: Protocol = protocol
        self.model = "gemini-2.5-flash" if protocol == "gemini" else "gpt-5-mini"

    def settings(self, **given: Any) -> gemini.GeminiSettings | openai.OpenAISettings:
        limits = {name: given.pop(name) for name in ModelLimits.__struct_fields__ if name in given}
        made = gemini.GeminiSettings if self.protocol == "gemini" else openai.OpenAISettings
        return made(**{"api_key": KEY, "limits": ModelLimits(**{"backoff_s": 0.01, **limits}), **given})

    def __call__(
        self,
        script: Callable[[Received], Reply] | Iterable[Reply],
        *keys: str,
        spec: Spec | None = None,
        policy: Policy | None = None,
        values: dict[str, tuple[Any, ...]] | None = None,
        cache_reply: Reply | None = None,
        gaps: Iterable[Gap] = (),
        **settings: Any,
    ) -> tuple[Generated, ModelServer]:
        spec = spec or pets()
        operations = [operation for operation in spec.operations if not keys or operation.key in keys]
        with ModelServer(script, self.protocol, cache_reply=cache_reply) as server:
            url = server.url if self.protocol == "gemini" else f"{server.url}/v1"
            wishes = self.settings(**{"base_url": url, "timeout_s": 5, **settings})
            wanted = {"policy": policy or Policy(), "values": values or {}, "identities": ("bob",)}
            gaps_by_operation = {gap.operation: gap for gap in gaps}
            return propose.generate(provider(wishes), spec, operations, gaps=gaps_by_operation, **wanted), server


def provider(settings: gemini.GeminiSettings | openai.OpenAISettings) -> Provider:
    if isinstance(settings, gemini.GeminiSettings):
        return gemini.provider(settings)
    return openai.provider(settings)


def many(count: int) -> Spec:
    """`GET /r0` … without parameters, each a resource of its own."""
    operations = tuple(
        Operation(key=f"GET /r{n}", method="GET", path=f"/r{n}", responses={"200": Response(description="ok")})
        for n in range(count)
    )
    return Spec(title="many", version="1", dialect="3.1", source="m", operations=operations)


def one_resource(count: int) -> Spec:
    """The operations of `pets`, and `GET /pets/{id}/r0` …, which refer to its pet."""
    spec = pets()
    read = next(operation for operation in spec.operations if operation.key == "GET /pets/{id}")
    more = tuple(
        msgspec.structs.replace(read, key=f"GET /pets/{{id}}/r{n}", path=f"/pets/{{id}}/r{n}") for n in range(count)
    )
    return msgspec.structs.replace(spec, operations=spec.operations + more)


def asked(request: Received) -> list[str]:
    return [operation["operation"] for operation in json.loads(blocks(request.user)[-1])["operations"]]


def fenced(user: str) -> tuple[str, str, str]:
    """What stands before, within and after the first fence."""
    match = re.search(r"(?s)^(.*?)(?P<fence>=====SPEC-DATA-[0-9a-f]{16}=====)\n(.*?)\n(?P=fence)\n(.*)$", user)
    assert match is not None
    return match.group(1), match.group(3), match.group(4)


def blocks(user: str) -> list[str]:
    """The data between fences, in order."""
    return [data for _, data in re.findall(r"(?s)(=====SPEC-DATA-[0-9a-f]{16}=====)\n(.*?)\n\1\n", user)]
