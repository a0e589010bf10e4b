"""`${NAME}`: references of target files to variables of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

import msgspec

from testops_lib.errors import TargetError
from testops_lib.model import BasicAuth, Identity, Login, Pairs
from testops_lib.placeholder import VARIABLE
from testops_lib.target.definition import Target


def has_reference(text: str) -> bool:
    """Whether the text refers to a variable."""
    return VARIABLE.search(text) is not None


def expand(text: str, environ: Mapping[str, str] = os.environ, *, where: str = "") -> str:
    """`text` with each `${NAME}` replaced from the environment.

    Raises:
        TargetError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise TargetError(
                f"{match[0]} is not set in the environment", where=where, next_step=f"export {match[1]}=…"
            )
        return environ[match[1]]

    return VARIABLE.sub(value, text)


def references(target: Target) -> set[str]:
    """Names of the variables in the target's credentials and certificates."""
    return set(VARIABLE.findall(msgspec.json.encode((target.identities, target.tls)).decode()))


def all_references(target: Target) -> set[str]:
    """Names of all variables that the target's file refers to."""
    texts = (target.spec, target.base_url, target.values, target.notify.webhook, target.identities, target.tls)
    return set(VARIABLE.findall(msgspec.json.encode(texts).decode()))


def with_references(users: Iterable[Identity], prefix: str) -> tuple[tuple[Identity, ...], dict[str, str]]:
    """Replaces what may be secret by `${PREFIX_1}`, `${PREFIX_2}`, …

    Returns:
        the users with references, and the values by the names of the variables.
    """
    secrets: dict[str, str] = {}

    def reference(text: str) -> str:
        if not text or has_reference(text):
            return text
        secrets[name := f"{prefix}_{len(secrets) + 1}"] = text
        return f"${{{name}}}"

    def pairs(literal: Pairs) -> Pairs:
        return tuple((name, reference(value)) for name, value in literal)

    def basic(literal: BasicAuth | None) -> BasicAuth | None:
        return literal and BasicAuth(username=literal.username, password=reference(literal.password))

    def login(user: Identity) -> Login | None:
        if user.login is None:
            return None
        # A payload with the placeholders of a user who is created first holds no secret.
        payload = user.login.payload if user.create else reference(user.login.payload)
        return msgspec.structs.replace(
            user.login, payload=payload, headers=pairs(user.login.headers), basic=basic(user.login.basic)
        )

    replaced = tuple(
        msgspec.structs.replace(
            user,
            headers=pairs(user.headers),
            query=pairs(user.query),
            cookies=pairs(user.cookies),
            basic=basic(user.basic),
            login=login(user),
        )
        for user in users
    )
    return replaced, secrets
