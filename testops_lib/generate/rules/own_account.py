"""Operations by which a caller locks itself out: they end its session, or change its password, token or account."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from testops_lib.generate.rules.words import is_static, plain, segments, words
from testops_lib.model import SAFE_METHODS, AccountChange, Identity
from testops_lib.spec.operation import Operation

_OWN: Final = frozenset({"current", "own", "my", "self", "myself", "me", "session", "profile", "account"})
"""Path words that stand for whoever asks."""

_PEOPLE: Final = frozenset(
    {"user", "account", "profile", "member", "customer", "person", "identity", "info", "details"}
)
_PASSWORDS: Final = frozenset({"password", "passwd", "passphrase", "pwd", "credential", "credentials"})
_FACTORS: Final = frozenset({"mfa", "totp", "fa", "twofactor", "multifactor"})  # `2fa` has the words 2 and fa
_TOKENS: Final = frozenset({"token", "tokens", "apikey", "apikeys", "key", "keys", "secret"})
_NAMES: Final = frozenset({"email", "username", "login", "phone"})
_ENDING: Final = frozenset({"deactivate", "deactivation", "delete", "deletion", "close", "closure", "erase", "remove"})
_CHANGING: Final = _ENDING | frozenset(
    "change update set reset rotate regenerate renew revoke revocation disable enable invalidate expire".split()
)
_NOT_A_CHANGE: Final = frozenset(
    "forgot forgotten forget recover recovery request policy policies strength check verify verification validate "
    "generate challenge login signin authenticate confirm".split()
)
"""Words of operations that speak of a password or a factor without changing the caller's."""
_PROOFS: Final = frozenset({"token", "code", "otp", "ticket", "secret"})


NO_SPARE: Final = {
    "session": "it would end the session of whoever asks, and no user with a login is given",
    "account": "it would change the account of whoever asks, and no user may be lost (`createUsers` or `spare: true`)",
}
"""Kind of change -> why an operation is not called."""


@dataclass(frozen=True, kw_only=True)
class Spares:
    """Who runs what ends a session, and what changes an account; None: nobody may, so it is not run.

    "" is whoever asks without an identity, where the target has none.
    """

    session: str | None = ""
    account: str | None = None

    def of(self, change: AccountChange) -> str | None:
        return self.account if change == "account" else self.session


def spares(identities: Sequence[Identity]) -> Spares:
    """Identities that may be lost: for an account a user who is created for the case or is declared to be spare; for a
    session also one who logs in, since such a case logs in for itself.
    """
    lost = next((one.name for one in identities if one.create is not None or one.spare), None)
    if lost is not None or not identities:
        return Spares(session=lost or "", account=lost)
    return Spares(session=next((one.name for one in (*identities[1:], identities[0]) if one.login), None))


def account_change(operation: Operation, required: Collection[str] = (), *, method: str = "") -> AccountChange:
    """What the operation does to its caller; `required`: names of required members of its body.

    `method`: asks about this one in place of the operation's.
    """
    method = method or operation.method
    parts = segments(operation.path)
    static = [part for part in parts if is_static(part)]
    tail = {*words(static[-1]), plain(static[-1])} if static else set()
    if {"logout", "signout", "logoff"} & {*tail, plain(operation.operation_id)} or {"sign", "out"} <= tail:
        return "session"
    if {"log", "out"} <= tail or {"log", "off"} <= tail:
        return "session"
    if method in SAFE_METHODS:
        return ""
    wanted = [frozenset(words(name)) for name in required]
    if _logs_in(method, wanted):
        return ""
    return _of_own(method, parts) or ("" if "{" in operation.path else _of_caller(operation, static, wanted))


def _logs_in(method: str, required: Sequence[frozenset[str]]) -> bool:
    """It takes a name and a password: a login, or a new user."""
    named = any(names & (_NAMES | {"user", "name"}) for names in required)
    return method == "POST" and named and any(names & _PASSWORDS for names in required)


def _of_own(method: str, parts: Sequence[str]) -> AccountChange:
    """By a word for the caller: `/users/me`, `/current/user/password`, not `/me/orders`."""
    first_free = next((index + 1 for index in reversed(range(len(parts))) if not is_static(parts[index])), 0)
    own = [index for index in range(first_free, len(parts)) if _OWN & set(words(parts[index]))]
    if not own:
        return ""
    named = {word for part in parts[own[0] :] for word in words(part)}
    rest = named - _OWN - _PEOPLE
    credentials = rest & (_PASSWORDS | _FACTORS | _TOKENS | _NAMES)
    if method == "POST":
        credentials -= {"tokens", "keys", "apikeys"}  # one more
    if credentials - ({"login"} if method == "POST" else set()) or rest & _ENDING:
        return "account"
    if rest or (method == "POST" and named == {"account"}):
        return ""
    return "session" if "session" in named else "account"


def _of_caller(operation: Operation, static: Sequence[str], required: Sequence[frozenset[str]]) -> AccountChange:
    """Without a word for the caller, and without an id that names somebody else."""
    spoken = {word for part in static for word in words(part)} | {plain(part) for part in static}
    said = spoken | set(words(operation.operation_id))
    if said & _NOT_A_CHANGE or any(names & _PROOFS and not names & _PASSWORDS for names in required):
        return ""
    changes = bool(said & _CHANGING)
    if spoken & _PASSWORDS:
        return "" if "reset" in said and not any(names & _PASSWORDS for names in required) else "account"
    if spoken & _FACTORS or (changes and spoken & (_TOKENS - {"key", "keys", "secret"})):
        return "account"
    if changes and (spoken & {"account", "email", "username"}):
        return "account"
    if required and all(names & _PASSWORDS for names in required):
        return "account"
    return ""
