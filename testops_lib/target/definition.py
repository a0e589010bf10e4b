"""What a target is, and what a run is asked to do with it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from testops_lib.model import Count, GateRules, Identity, Policy, Status, Tls, Value
from testops_lib.settings import MAX_ROUNDS

Money = Annotated[float, msgspec.Meta(ge=0, le=1_000_000_000)]


class Expected(Value, frozen=True, kw_only=True):
    """Statuses that are intended although the document omits them or they are server errors."""

    operation: str
    """A glob over operation keys: `GET /status/*`."""
    statuses: tuple[Status, ...]
    why: str


class Scope(Value, frozen=True, kw_only=True):
    """Which operations are tested: globs over keys (`GET /pets*`) or operation ids."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class PropertyBased(Value, frozen=True, kw_only=True):
    """Options of the source `property`."""

    examples: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    """Random cases of each operation: at most this many with valid data, and as many with invalid data."""
    seed: int = 0
    """The same seed gives the same cases."""


class Generate(Value, frozen=True, kw_only=True):
    """Where the cases of a target come from, and how many."""

    sources: tuple[str, ...] = ("rules",)
    """Names from `SOURCES`; their cases form one suite."""
    imports: tuple[str, ...] = ()
    """Files (relative to the target file) for the source `import`: HAR, Postman collection, Arazzo."""
    users: Literal["separate", "shared", "unknown"] = "unknown"
    """Whether other users may reach what a user created. separate: a second user who reaches it is a finding; unknown:
    a second user who reads it is an advisory finding; shared: not tested."""
    max_cases_per_operation: Count = 0
    max_cases: Count = 0
    """Of the whole suite, which keeps the best; 0: no limit."""
    rounds: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROUNDS)] = 0
    """Further rounds of a run; they use what the API answered in earlier rounds. A run with a review has none, since
    their cases run at once."""
    property: PropertyBased = PropertyBased()
    max_tokens: Count = 0
    """Limit of the tokens, input and output, that language models use for one run; 0: no limit."""
    max_money: Money = 0
    """Limit of the money for one run, in the currency of the price table; 0: no limit."""
    max_tokens_per_month: Count = 0
    """For all runs of the target in a calendar month (UTC); 0: no limit."""
    max_money_per_month: Money = 0
    review: Literal["never", "new", "always"] = "never"
    """When a person reviews the cases before they run: never, when some are new or changed, or in each run."""
    instruction: str = ""
    """The team's instruction to the models that write cases; it cannot change their rules."""
    promote_after: Count = 0
    """After this many consecutive runs in which a case passed, its checks that rest on a guess count for the gate;
    0: never."""


class Notify(Value, frozen=True, kw_only=True):
    """Who hears of the outcome of a run."""

    webhook: str = ""
    """A URL, usually `${NAME}`."""


class Described(Value, frozen=True, kw_only=True):
    """What a target file and a target have in common."""

    title: str = ""
    spec: str
    """URL or file (relative to the target file); may hold `${NAME}`."""
    base_url: str = ""
    """May hold `${NAME}`; empty: the document's first server."""
    tls: Tls = Tls()
    """Certificates: absolute paths on the runner's machine, or `${NAME}`."""
    policy: Policy = Policy()
    gate: GateRules = GateRules()
    schedule: str | None = None
    """Cron expression (UTC) of the nightly run; None: only on demand."""
    values: dict[str, tuple[Any, ...]] = msgspec.field(default_factory=dict)
    """Values by parameter or field name, preferred to all others. Texts may hold `${NAME}` but no secret, since they
    become part of the cases."""
    expected: tuple[Expected, ...] = ()
    operations: Scope = Scope()
    generate: Generate = Generate()
    notify: Notify = Notify()
    pod: dict[str, Any] = msgspec.field(default_factory=dict)
    """Parts of a pod's manifest that are added to the target's runner pods."""


class Target(Described, frozen=True, kw_only=True):
    """An API under test: a spec, a base URL, credentials, a policy, a gate."""

    name: str = ""
    """The file's name without `.yaml`."""
    identities: tuple[Identity, ...] = ()


class Credentials(Value, frozen=True, kw_only=True):
    """Users of an API without a target file, and the only address that gets their credentials."""

    base_url: str
    identities: tuple[Identity, ...]


class RunConf(Value, frozen=True, kw_only=True):
    """What a run shall do: the DAG's params."""

    target: str = ""
    """Name of a target file; or, without it, `spec`."""
    spec: str = ""
    base_url: str = ""
    sources: tuple[str, ...] = ()
    """Sources of the cases, such as `rules` and `gemini`; empty: as the target says."""
    operations: tuple[str, ...] = ()
    """Globs over operation keys or ids; empty: as the target says."""
    tags: tuple[str, ...] = ()
    methods: str = ""
    """`safe` or `all`; it can narrow the target's policy but not widen it."""
    max_cases: int = 0
    rounds: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROUNDS)] | None = None
    """Further rounds; None: as the target says."""
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Limit for language models in this run. It can lower the target's but not raise it; 0: as the target says."""
    max_money: Annotated[float, msgspec.Meta(ge=0)] = 0
    review: Literal["", "never", "new", "always"] = ""
    """It can ask for more reviews than the target does, but not for fewer."""
    observe: bool = False
    """Results keep the answers, redacted, so that runs can be compared; further rounds set it anyway."""
    allow_private: bool = False
    """With `spec`: requests may go to loopback and private addresses."""


class ResolvedRun(Value, frozen=True, kw_only=True):
    """What a run does, stored when it is opened. Later stages read neither the target file nor the conf again."""

    conf: RunConf = msgspec.field(name="order")
    target: Target
    """The target, changed by the conf. In `spec`, `notify` and the credentials each `${NAME}` is still unreplaced."""
