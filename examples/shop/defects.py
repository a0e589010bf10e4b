"""What can be wrong with the shop: each defect is a layer over one operation, told about in defects.yaml.

The shop below is right. A defect sees the request first and the answer last; it may change either. So a defect
touches the operation it names and nothing else, and switching it off leaves no trace.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

from examples.shop.problem import MEDIA_TYPE
from examples.shop.settings import Settings

SLOW_S = 4
"""What a slow answer takes."""

_REMEMBERED = 20_000


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request as a defect sees it."""

    method: str
    path: str
    key: tuple[str, ...]
    """The values of the path's parameters."""
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes
    settings: Settings

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def with_header(self, name: str, value: str) -> Call:
        return replace(self, headers=(*((k, v) for k, v in self.headers if k != name), (name, value)))

    def parameter(self, name: str) -> str | None:
        """The value of a query parameter that is given exactly once."""
        values = [value for key, value in self.query if key == name]
        return values[0] if len(values) == 1 else None

    def with_query(self, **changed: str) -> Call:
        kept = tuple((name, value) for name, value in self.query if name not in changed)
        return replace(self, query=(*kept, *changed.items()))

    def without_query(self, name: str) -> Call:
        return replace(self, query=tuple(pair for pair in self.query if pair[0] != name))

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object of the body; empty when it is none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def with_document(self, document: Any) -> Call:
        return replace(self, body=json.dumps(document).encode())


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer as a defect sees it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: bool = False
    """The connection ends in the middle of the body."""

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def with_document(self, **changed: Any) -> Reply:
        """The reply with members of its JSON object changed."""
        return replace(self, body=json.dumps({**self.document, **changed}).encode())

    def without_header(self, name: str) -> Reply:
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0] != name))

    def with_header(self, name: str, value: str) -> Reply:
        return replace(self, headers=(*self.without_header(name).headers, (name, value)))


Shop = Callable[[Call], Awaitable[Reply]]
"""The right shop: a request in, its answer out."""

Defect = Callable[[Call, Shop], Awaitable[Reply]]

_REGISTER: dict[str, tuple[tuple[str, ...], Callable[[], Defect]]] = {}
"""Defect id -> the operations it sees, and how to make it (each server has its own memory)."""


def _defect(id: str, *operations: str) -> Callable[[Defect], Defect]:
    """Registers a defect without memory."""

    def register(defect: Defect) -> Defect:
        _REGISTER[id] = operations, lambda: defect
        return defect

    return register


def _remembering(id: str, *operations: str) -> Callable[[Callable[[], Defect]], Callable[[], Defect]]:
    """Registers the maker of a defect with a memory of its own."""

    def register(make: Callable[[], Defect]) -> Callable[[], Defect]:
        _REGISTER[id] = operations, make
        return make

    return register


class _Memory(OrderedDict[str, Any]):
    """The newest entries."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)


_CRASH = Reply(status=500, headers=(("content-type", "text/plain; charset=utf-8"),), body=b"Internal Server Error")


def _refusal(status: int, title: str) -> Reply:
    document = {"type": "about:blank", "title": title, "status": status, "detail": title + ".", "errors": []}
    return Reply(status=status, headers=(("content-type", MEDIA_TYPE),), body=json.dumps(document).encode())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --------------------------------------------------------------------------- server errors


@_defect("boundary-crash", "GET /reports/sales")
async def _boundary_crash(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    return _CRASH if reply.status == 200 and reply.document["days"] == 365 else reply


@_defect("type-crash", "POST /payments")
async def _type_crash(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    document = call.document
    wrong = "amount" in document and not _is_number(document["amount"])
    return _CRASH if reply.status == 422 and wrong else reply


@_defect("malformed-crash", "POST /subscriptions")
async def _malformed_crash(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    return _CRASH if reply.status == 400 else reply


# --------------------------------------------------------------------------- what is documented is not what comes


@_defect("create-answers-200", "POST /categories")
async def _create_answers_200(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    return replace(reply, status=200) if reply.status == 201 else reply


@_defect("undocumented-refusal", "GET /reviews")
async def _undocumented_refusal(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    rating = call.parameter("min_rating") or ""
    if reply.status == 422 and re.fullmatch(r"-?[0-9]+(\.0+)?", rating, re.ASCII):
        return _refusal(416, "Range Not Satisfiable")
    return reply


@_defect("wrong-type", "GET /reports/inventory")
async def _wrong_type(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    return reply.with_document(total_units=str(reply.document["total_units"])) if reply.status == 200 else reply


@_defect("missing-field", "GET /payments/{payment_id}")
async def _missing_field(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    if reply.status != 200:
        return reply
    kept = {name: value for name, value in reply.document.items() if name != "created_at"}
    return replace(reply, body=json.dumps(kept).encode())


@_defect("unknown-enum-value", "POST /orders/{order_id}/cancel")
async def _unknown_enum_value(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    return reply.with_document(status="annulled") if reply.status == 200 else reply


@_defect("unexpected-null", "GET /customers/{customer_id}")
async def _unexpected_null(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    return reply.with_document(loyalty_points=None) if reply.status == 200 else reply


@_defect("missing-header", "GET /categories")
async def _missing_header(call: Call, shop: Shop) -> Reply:
    return (await shop(call)).without_header("x-total-count")


@_defect("wrong-content-type", "GET /reports/inventory.csv")
async def _wrong_content_type(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    return reply.with_header("content-type", "text/html; charset=utf-8") if reply.status == 200 else reply


# --------------------------------------------------------------------------- what is refused, what is let in


@_defect("price-below-minimum", "POST /products")
async def _price_below_minimum(call: Call, shop: Shop) -> Reply:
    document = call.document
    price = document.get("price")
    if price is not None and _is_number(price) and price < 0.01:
        call = call.with_document({**document, "price": 0.01})
    return await shop(call)


@_defect("name-too-long", "POST /warehouses")
async def _name_too_long(call: Call, shop: Shop) -> Reply:
    document = call.document
    name = document.get("name")
    if isinstance(name, str) and len(name) > 60:
        call = call.with_document({**document, "name": name[:60]})
    return await shop(call)


@_defect("missing-field-accepted", "POST /products/{product_id}/reviews")
async def _missing_field_accepted(call: Call, shop: Shop) -> Reply:
    document = call.document
    return await shop(call.with_document({"rating": 3, **document}) if document else call)


@_defect("unknown-sort-accepted", "GET /products")
async def _unknown_sort_accepted(call: Call, shop: Shop) -> Reply:
    sort = call.parameter("sort")
    return await shop(call if sort in (None, "id", "price", "name") else call.without_query("sort"))


@_defect("media-type-ignored", "POST /carts")
async def _media_type_ignored(call: Call, shop: Shop) -> Reply:
    media = call.header("content-type")
    wrong = media is not None and not media.lower().startswith("application/json") and call.body
    return await shop(call.with_header("content-type", "application/json").with_document({}) if wrong else call)


@_defect("maximum-refused", "POST /orders")
async def _maximum_refused(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    return _refusal(422, "Unprocessable Content") if reply.status == 201 and call.document["quantity"] == 100 else reply


@_defect("no-credentials-needed", "GET /stock")
async def _no_credentials_needed(call: Call, shop: Shop) -> Reply:
    if call.header("authorization") is None:
        call = call.with_header("authorization", f"Bearer {call.settings.admin_token}")
    return await shop(call)


@_defect("any-token-accepted", "GET /payments")
async def _any_token_accepted(call: Call, shop: Shop) -> Reply:
    if (call.header("authorization") or "").lower().startswith("bearer "):
        call = call.with_header("authorization", f"Bearer {call.settings.admin_token}")
    return await shop(call)


@_defect("any-method-accepted", "GET /currencies/{code}")
async def _any_method_accepted(call: Call, shop: Shop) -> Reply:
    return await shop(replace(call, method="GET"))


# --------------------------------------------------------------------------- state


@_defect("one-too-many", "GET /orders")
async def _one_too_many(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    if reply.status != 200:
        return reply
    limit, offset = int(float(call.parameter("limit") or 20)), int(float(call.parameter("offset") or 0))
    further = await shop(call.with_query(limit="1", offset=str(offset + limit)))
    if further.status != 200:
        return reply
    return replace(reply, body=json.dumps(reply.document + further.document).encode())


@_remembering("created-not-readable", "POST /suppliers", "GET /suppliers/{supplier_id}")
def _created_not_readable() -> Defect:
    created = _Memory()

    async def defect(call: Call, shop: Shop) -> Reply:
        if call.method == "GET" and call.key[0] in created:
            return _refusal(404, "Not Found")
        reply = await shop(call)
        if call.method == "POST" and reply.status == 201:
            created[str(reply.document["id"])] = True
        return reply

    return defect


@_remembering("use-after-delete", "DELETE /wishlists/{wishlist_id}", "GET /wishlists/{wishlist_id}")
def _use_after_delete() -> Defect:
    seen = _Memory()

    async def defect(call: Call, shop: Shop) -> Reply:
        if call.method == "DELETE":
            before = await shop(replace(call, method="GET", body=b""))
            reply = await shop(call)
            if reply.status == 204 and before.status == 200:
                seen[call.key[0]] = before
            return reply
        return seen.get(call.key[0]) or await shop(call)

    return defect


@_remembering("put-adds", "PUT /warehouses/{warehouse_id}")
def _put_adds() -> Defect:
    last = _Memory()

    async def defect(call: Call, shop: Shop) -> Reply:
        document = call.document
        again = document and last.get(call.key[0]) == document
        capacity = document.get("capacity")
        sent = call
        if again and isinstance(capacity, int):
            sent = call.with_document({**document, "capacity": min(2 * capacity, 1_000_000)})
        reply = await shop(sent)
        if reply.status == 204:
            last[call.key[0]] = document
        return reply

    return defect


@_defect("change-not-stored", "PUT /subscriptions/{subscription_id}")
async def _change_not_stored(call: Call, shop: Shop) -> Reply:
    before = await shop(replace(call, method="GET", body=b""))
    reply = await shop(call)
    if before.status == reply.status == 200:
        await shop(call.with_document({**call.document, "label": before.document["label"]}))
    return reply


# --------------------------------------------------------------------------- time and wire


@_defect("slow", "GET /recommendations")
async def _slow(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    if reply.status == 200:
        await asyncio.sleep(SLOW_S)
    return reply


@_defect("cut-short", "GET /shipping-quotes")
async def _cut_short(call: Call, shop: Shop) -> Reply:
    reply = await shop(call)
    return replace(reply, cut=True) if reply.status == 200 else reply


# --------------------------------------------------------------------------- laying them over


def chosen(names: str) -> tuple[str, ...]:
    """The ids that `all`, `none` or a list separated by commas means.

    Raises:
        SystemExit: there is no such defect.
    """
    if names in ("all", "none"):
        return tuple(_REGISTER) if names == "all" else ()
    ids = tuple(name.strip() for name in names.split(",") if name.strip())
    if unknown := [id for id in ids if id not in _REGISTER]:
        raise SystemExit(
            f"shop: SHOP_DEFECTS: there is no defect {', '.join(unknown)}\n"
            f"  -> use all, none, or some of: {', '.join(_REGISTER)}"
        )
    return ids


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


class DefectLayer:
    """The shop with defects: ASGI outside, `Call` and `Reply` within."""

    def __init__(self, app: ASGIApp, ids: tuple[str, ...], settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._defects: list[tuple[str, re.Pattern[str], Defect]] = []
        for id in ids:
            operations, make = _REGISTER[id]
            defect = make()
            for operation in operations:
                method, _, path = operation.partition(" ")
                pattern = re.compile(re.sub(r"\\\{\w+\\\}", "([^/]+)", re.escape(path)))
                self._defects.append(("" if id == "any-method-accepted" else method, pattern, defect))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for method, pattern, defect in self._defects:
                if method in ("", scope["method"]) and (found := pattern.fullmatch(scope["path"])):
                    return await self._answer(defect, found.groups(), scope, receive, send)
        return await self._app(scope, receive, send)

    async def _answer(self, defect: Defect, key: tuple[str, ...], scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        call = Call(
            method=scope["method"],
            path=scope["path"],
            key=key,
            query=tuple(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
            headers=_decoded(scope["headers"]),
            body=body,
            settings=self._settings,
        )

        async def shop(asked: Call) -> Reply:
            return await self._ask(scope, asked)

        reply = await defect(call, shop)
        headers = [(name, value) for name, value in reply.headers if name != "content-length"]
        if reply.status != 204:
            headers.append(("content-length", str(len(reply.body))))
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        if reply.cut:
            await send({"type": "http.response.body", "body": reply.body[: len(reply.body) // 2], "more_body": True})
            return
        await send({"type": "http.response.body", "body": b"" if call.method == "HEAD" else reply.body})

    async def _ask(self, scope: Scope, asked: Call) -> Reply:
        """The answer of the right shop."""
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in asked.headers]
        inner = {
            **scope,
            "method": asked.method,
            "query_string": urlencode(asked.query).encode("latin-1"),
            "headers": [pair for pair in headers if pair[0] != b"content-length"],
        }
        status = 0
        answered: tuple[tuple[str, str], ...] = ()
        parts: list[bytes] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": asked.body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = _decoded(message["headers"])
            else:
                parts.append(message.get("body", b""))

        await self._app(inner, receive, send)
        return Reply(status=status, headers=answered, body=b"".join(parts))
