"""A valid request -> what its acceptance rests on: the document alone, the document's own example, or a guess.

Whether a refusal of valid data is a finding or a false alarm is decided here, by two tables with one entry for each
reason: `DOUBTS` make the check advisory, `EXCUSES` add statuses that are as good as an acceptance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from testops_lib.doubts import Doubt
from testops_lib.generate.judge import Validity
from testops_lib.generate.rules.draft import Draft
from testops_lib.generate.rules.words import is_static, segments, words
from testops_lib.model import SAFE_METHODS, Basis, PositiveDataAcceptance
from testops_lib.spec.operation import Operation

STATE_STATUSES: Final = frozenset({402, 409, 412, 423, 425, 426, 428})
"""Where documented: answers to valid data in the wrong state of things."""

_PROVING: Final = frozenset(
    "login signin authenticate token tokens oauth auth session sessions password verify "
    "verification otp activate confirm".split()
)
"""Words of operations that ask for something only a person knows."""

_READS: Final = SAFE_METHODS - {"OPTIONS", "TRACE"}


@dataclass(frozen=True, kw_only=True)
class ValidRequest:
    """What the tables look at."""

    draft: Draft
    validity: Validity
    """What the judge says of the request as it is sent; never `invalid`."""
    chained: bool
    """Another case makes the resource and reads it, and says whether it is there."""
    others_delete: bool
    """The policy allows changes, so that somebody else's case may delete what a list showed."""

    @property
    def operation(self) -> Operation:
        return self.draft.operation

    @cached_property
    def ends_in_word(self) -> bool:
        """The path goes on after its last parameter: `/orders/{id}/items`, `/orders/{id}/cancel`."""
        return is_static(segments(self.operation.path)[-1])

    @cached_property
    def acts(self) -> bool:
        """It does something to a resource (`POST /orders/{id}/cancel`) whose state may not allow it."""
        has_parameter = "{" in self.operation.path
        return self.operation.method != "GET" and has_parameter and self.ends_in_word and not self.draft.example

    @property
    def reads(self) -> bool:
        return self.operation.method in _READS

    @property
    def documents_404(self) -> bool:
        return "404" in self.operation.responses


class DoubtRule(NamedTuple):
    """When it applies, the check rests on `basis`; `doubt` None: for the reason that the draft itself gives."""

    doubt: Doubt | None
    applies: Callable[[ValidRequest], bool]
    basis: Basis = "guess"


class Excuse(NamedTuple):
    """When it applies, an answer with one of `statuses` does not contradict the document."""

    reason: str
    applies: Callable[[ValidRequest], bool]
    statuses: frozenset[int]


DOUBTS: Final = (
    DoubtRule("unclear_validity", lambda request: request.validity == "unsure"),
    DoubtRule(None, lambda request: bool(request.draft.doubt)),
    DoubtRule("unlinked_reference", lambda request: request.draft.dangling),
    DoubtRule("changing_state", lambda request: request.acts),
    DoubtRule(
        "personal_secret",
        lambda request: request.operation.method != "GET" and bool(set(words(request.operation.path)) & _PROVING),
    ),
)
"""The first that applies counts; an order changes the reason that a report gives, never the basis."""

EXCUSES: Final = (
    Excuse(
        "the id is one of another kind of resource",
        lambda request: request.draft.foreign,
        frozenset({404, 410}),
    ),
    Excuse(
        "a list showed the resource, and another case may have deleted it since",
        lambda request: request.draft.listed and request.others_delete,
        frozenset({404, 410}),
    ),
    Excuse(
        "the resource exists, and this part of it need not",
        lambda request: (
            bool(request.draft.path)
            and request.ends_in_word
            and request.operation.method == "GET"
            and request.documents_404
        ),
        frozenset({404}),
    ),
    Excuse(
        "nothing matches an optional filter with a made-up value",
        lambda request: request.draft.narrowed and request.reads and request.documents_404,
        frozenset({404}),
    ),
    Excuse(
        "a value should be unique and cannot hold a token, so an earlier run may have used it",
        lambda request: request.draft.salted,
        frozenset({409}),
    ),
    Excuse(
        "whether the resource can be read is asked once, by `EnsureResourceAvailability`",
        lambda request: request.chained and bool(request.draft.setup) and request.reads,
        frozenset({404, 410}),
    ),
    Excuse(
        "the state of the resource may not allow the action",
        lambda request: request.acts,
        frozenset({409}),
    ),
)


def acceptance(request: ValidRequest) -> PositiveDataAcceptance:
    """The check that a valid request is accepted, with its basis, its doubt and the statuses that are as good."""
    documented = {int(code) for code in request.operation.responses if code.isdigit()} & STATE_STATUSES
    excused = documented.union(*(excuse.statuses for excuse in EXCUSES if excuse.applies(request)))
    also = tuple(sorted(excused))
    rule = next((rule for rule in DOUBTS if rule.applies(request)), None)
    if rule is not None:
        doubt = request.draft.doubt if rule.doubt is None else rule.doubt
        return PositiveDataAcceptance(basis=rule.basis, also=also, doubt=doubt)
    # The document's own example is a stronger promise than its schema: not even a documented refusal excuses it.
    example = request.draft.example and not request.draft.invented
    return PositiveDataAcceptance(basis="example" if example else "spec", also=also)
