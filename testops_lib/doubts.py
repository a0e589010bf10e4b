"""Why a check is advisory: the names that checks, failures and findings carry, and a sentence for each.

Cases carry the name alone, so that another wording changes no case's id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Doubt = Literal[
    "",
    "ambiguous_alternative",
    "ambiguous_body",
    "changing_state",
    "combined_parameters",
    "described_choice",
    "documented_refusal",
    "documented_server_error",
    "earlier_value",
    "free_text",
    "further_try",
    "guessed_time",
    "guessed_value",
    "lenient_server",
    "limit_by_name",
    "made_up_id",
    "name_for_id",
    "named_in_refusal",
    "null_as_missing",
    "optional_feature",
    "personal_secret",
    "random_data",
    "server_owned_value",
    "shared_resources",
    "similar_media_type",
    "unchecked_format",
    "unclear_validity",
    "undescribed_data",
    "undocumented_refusal",
    "unknown_format",
    "unknown_resource",
    "unlinked_reference",
    "unstated_rule",
]
"""A reason to believe that the API is right and the check is wrong; "" is none."""

SENTENCES: Final[Mapping[str, str]] = {
    "ambiguous_alternative": "the data fits more than one alternative of a `oneOf`",
    "ambiguous_body": "another reader may understand the body differently",
    "changing_state": "the operation may depend on the state of the resource",
    "combined_parameters": "optional parameters may contradict each other",
    "described_choice": "a value was read from a description, not from a schema",
    "documented_refusal": "the document lists this status, so a rule that no schema states may apply",
    "documented_server_error": "the document lists this status, so the API may answer it by design",
    "earlier_value": "an earlier round saw the id in the path, and the resource may be gone",
    "free_text": "a text parameter has no example, default, format or list of values",
    "further_try": "the request is a further try with other values",
    "guessed_time": "a date or time was guessed from its name",
    "guessed_value": "a value was guessed from its name, and the API may accept only some values",
    "lenient_server": "a lenient server may read the data as valid",
    "limit_by_name": "only its name says that the parameter limits the list",
    "made_up_id": "the path holds a made-up id",
    "name_for_id": "the path holds the name of the resource in place of its id",
    "named_in_refusal": "the request was changed to fit the text of an earlier refusal",
    "null_as_missing": "many servers read null as a missing value",
    "optional_feature": "HTTP leaves it to the server whether it supports this",
    "personal_secret": "the operation may ask for something that only a person knows",
    "random_data": "random data may break a rule that no schema states",
    "server_owned_value": "the server may change the values that it stores",
    "shared_resources": "users may be allowed to reach each other's resources",
    "similar_media_type": "the media type differs from the documented one in its parameters alone",
    "unchecked_format": "many servers do not check formats",
    "unclear_validity": "the document leaves open whether the request is valid",
    "undescribed_data": "the document does not describe the data",
    "undocumented_refusal": "the document does not say that this is refused",
    "unknown_format": "the schema asks for a format that no standard defines",
    "unknown_resource": "the path names a resource that does not exist",
    "unlinked_reference": "the data refers to a resource that the case did not make",
    "unstated_rule": "the document does not state the rule that the check expects",
}
"""Doubt -> the words after "advisory because"."""


def because(doubt: str) -> str:
    """The sentence of a doubt; its name as words where an unknown version wrote it, "" for none."""
    return SENTENCES.get(doubt, doubt.replace("_", " "))
