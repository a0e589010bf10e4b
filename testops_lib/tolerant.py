"""JSON that a newer version may have written: fields that this one does not know are left out (decision 32)."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T")


class TolerantDecoder(Generic[T]):
    """Decodes JSON into a type whose structs refuse unknown fields.

    A document with unknown fields is decoded a second time without them; every other document costs nothing more.
    For what tells of something that happened. What is to be executed must be refused, not half-read.
    """

    def __init__(self, kind: Any) -> None:
        self._strict: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._shape = inspect.type_info(kind)

    def decode(self, data: bytes | str) -> T:
        """The value.

        Raises:
            msgspec.DecodeError: the data is no JSON, or something else than the type even without unknown fields.
        """
        try:
            return self._strict.decode(data)
        except msgspec.ValidationError as error:
            if "unknown field" not in str(error):
                raise
            return self._strict.decode(msgspec.json.encode(_without_unknown(msgspec.json.decode(data), self._shape)))


def _without_unknown(value: Any, shape: inspect.Type) -> Any:
    if isinstance(shape, inspect.Metadata):
        return _without_unknown(value, shape.type)
    if isinstance(shape, inspect.UnionType):
        return _without_unknown(value, _alternative(value, shape))
    if isinstance(shape, inspect.StructType) and isinstance(value, dict):
        kinds = {field.encode_name: field.type for field in shape.fields}
        return {
            name: _without_unknown(item, kinds[name]) if name in kinds else item
            for name, item in value.items()
            if name in kinds or name == shape.tag_field
        }
    if isinstance(shape, inspect.DictType) and isinstance(value, dict):
        return {name: _without_unknown(item, shape.value_type) for name, item in value.items()}
    if isinstance(shape, inspect.ListType | inspect.VarTupleType) and isinstance(value, list):
        return [_without_unknown(item, shape.item_type) for item in value]
    return value


def _alternative(value: Any, union: inspect.UnionType) -> inspect.Type:
    """The part of the union that the value is of."""
    return next((kind for kind in union.types if _fits(value, kind)), inspect.AnyType())


def _fits(value: Any, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.StructType):
        return isinstance(value, dict) and (kind.tag_field is None or value.get(kind.tag_field) == kind.tag)
    if isinstance(kind, inspect.DictType):
        return isinstance(value, dict)
    return isinstance(kind, inspect.ListType | inspect.VarTupleType) and isinstance(value, list)
