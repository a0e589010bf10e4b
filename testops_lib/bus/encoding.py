"""Records as bytes and back, within the topics' limits."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from testops_lib.bus import batch as batches
from testops_lib.bus.topics import MAX_CONTRACT_BYTES, MAX_RESULT_BYTES
from testops_lib.model import (
    BatchOrder,
    Case,
    Contract,
    Ended,
    HeaderContract,
    MediaContract,
    Outcome,
    Plan,
    Result,
    Returned,
    Taken,
)
from testops_lib.tolerant import TolerantDecoder

log = logging.getLogger(__name__)

CASE = msgspec.json.Decoder(Case)
RESULT: TolerantDecoder[Result] = TolerantDecoder(Result)
PLAN: msgspec.json.Decoder[Plan | Contract] = msgspec.json.Decoder(Plan | Contract)
_ORDER = msgspec.json.Decoder(BatchOrder)
OUTCOME: TolerantDecoder[Outcome] = TolerantDecoder(Taken | Returned | Ended)

_LONGEST_TEXT = 2_000
"""Characters of a text that people read in a log: an outcome's, a failure's."""

_MOST_FAILURES = 20
"""Of a result that is too large even without its evidence."""


def encode_result(result: Result) -> bytes:
    """The result as JSON of at most `MAX_RESULT_BYTES`; evidence goes first, then failures after the twentieth."""
    data = _encode(result)
    if len(data) > MAX_RESULT_BYTES:
        steps = tuple(msgspec.structs.replace(step, request=None, response=None) for step in result.steps)
        result = msgspec.structs.replace(result, steps=steps)
        data = _encode(result)
    if len(data) > MAX_RESULT_BYTES:
        failures = tuple(
            msgspec.structs.replace(
                failure,
                message=failure.message[:_LONGEST_TEXT],
                cause=failure.cause[:_LONGEST_TEXT],
                quote=failure.quote[:_LONGEST_TEXT],
            )
            for failure in result.failures[:_MOST_FAILURES]
        )
        texts = {"case_name": result.case_name[:_LONGEST_TEXT], "reason": result.reason[:_LONGEST_TEXT]}
        data = _encode(msgspec.structs.replace(result, failures=failures, steps=(), **texts))
    return data


def _encode(result: Result) -> bytes:
    try:
        return msgspec.json.encode(result)
    except UnicodeEncodeError:
        # A lone surrogate, as a hostile answer's "\ud800" gives when Python's json reads it.
        return msgspec.json.encode(_encodable(msgspec.to_builtins(result)))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value


def encode_plan_record(record: Plan | Contract) -> bytes:
    """The plan or contract as JSON; a contract over `MAX_CONTRACT_BYTES` without its schemas."""
    data = msgspec.json.encode(record)
    if isinstance(record, Contract) and len(data) > MAX_CONTRACT_BYTES:
        log.warning("%s: its contract has %d bytes; published without schemas", record.operation, len(data))
        data = msgspec.json.encode(_without_schemas(record))
    return data


def _without_schemas(contract: Contract) -> Contract:
    responses = {
        status: msgspec.structs.replace(
            response,
            content=dict.fromkeys(response.content, MediaContract()),
            headers={name: HeaderContract(required=header.required) for name, header in response.headers.items()},
        )
        for status, response in contract.responses.items()
    }
    return msgspec.structs.replace(contract, responses=responses)


def encode_outcome(outcome: Outcome) -> bytes:
    """The outcome as JSON; a long text is cut."""
    if isinstance(outcome, Ended):
        outcome = msgspec.structs.replace(outcome, text=_encodable(outcome.text[:_LONGEST_TEXT]))
    return msgspec.json.encode(outcome)


def decode_order(data: bytes, *, run: str | None, partition: int) -> BatchOrder:
    """The order in a record of this run and partition, with every text in it usable.

    Raises:
        MsgspecError, ValueError, SettingsError: it is none.
    """
    order = _ORDER.decode(data)
    batches.parse(order.plan), batches.parse(order.batch)
    batches.parse_positions(order.results), batches.parse_positions(order.outcomes)
    if run != order.run:
        raise ValueError("the header `run` names another run, or none")
    if partition not in order.partitions:
        raise ValueError(f"it lies in partition {partition}, which is none of its own")
    if order.expires.tzinfo is None:
        raise ValueError("`expires` has no time zone")
    return order
