"""OpenAPI document -> operations."""

from __future__ import annotations

from testops_lib.spec.choose import base_url, select, select_unusable
from testops_lib.spec.contract import closed, contract, contracts
from testops_lib.spec.limits import Limits
from testops_lib.spec.load import load, load_bytes
from testops_lib.spec.operation import (
    Header,
    Link,
    MediaType,
    Operation,
    Parameter,
    RequestBody,
    Response,
    Schema,
    SecurityScheme,
    Spec,
    decode,
    encode,
)

__all__ = [
    "Header",
    "Limits",
    "Link",
    "MediaType",
    "Operation",
    "Parameter",
    "RequestBody",
    "Response",
    "Schema",
    "SecurityScheme",
    "Spec",
    "base_url",
    "closed",
    "contract",
    "contracts",
    "decode",
    "encode",
    "load",
    "load_bytes",
    "select",
    "select_unusable",
]
