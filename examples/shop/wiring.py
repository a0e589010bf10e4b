"""What every route shares: who may call it, how its parameters are written, how its request is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, NoReturn

from fastapi import Depends, Path, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException

from examples.shop.kinds import INTEGER_TEXT, NUMBER_TEXT, BooleanText, DateTime, Uuid
from examples.shop.schema import SEEDED_CART, SEEDED_COUPON, SEEDED_CUSTOMER, SEEDED_ORDER
from examples.shop.store import Account, Shop

# --------------------------------------------------------------------------- refusing


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


class ShopRoute(APIRoute):
    """Refuses, before anything is interpreted, what no document can mean.

    That is: other media types than JSON, bodies that are not JSON (NaN included), a parameter given twice that is no
    list.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        scalars = [
            field.alias for field in self.dependant.query_params if "list[" not in str(field.field_info.annotation)
        ]

        async def checked(request: Request) -> Response:
            if self.body_field is not None:
                media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if media != "application/json":
                    raise HTTPException(415, "Send the body as application/json.")
                try:
                    json.loads(await request.body(), parse_constant=_not_json)
                except (ValueError, RecursionError) as error:
                    raise HTTPException(400, "The body is not JSON.") from error
            if twice := [name for name in scalars if len(request.query_params.getlist(name)) > 1]:
                raise RequestValidationError([{"loc": ("query", name), "msg": "is given twice"} for name in twice])
            return await handle(request)

        return checked


# --------------------------------------------------------------------------- who


def _shop(request: Request) -> Shop:
    shop = request.app.state.shop
    assert isinstance(shop, Shop)
    return shop


Store = Annotated[Shop, Depends(_shop)]

_token = HTTPBearer(
    scheme_name="token",
    auto_error=False,
    description="A service token, or the token of POST /sessions. Staff tokens do here, too.",
)
_staff_token = HTTPBearer(scheme_name="staffToken", auto_error=False, description="The same, of somebody of the staff.")


def _account(shop: Shop, credentials: HTTPAuthorizationCredentials | None) -> Account:
    account = shop.account(credentials.credentials) if credentials else None
    if account is None:
        raise HTTPException(401, "Send a valid bearer token.", headers={"WWW-Authenticate": "Bearer"})
    return account


async def signed_in(
    shop: Store, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_token)]
) -> tuple[Account, str]:
    """The account that calls and its token; 401 when there is none."""
    account = _account(shop, credentials)
    return account, credentials.credentials if credentials else ""


async def of_staff(
    shop: Store, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_staff_token)]
) -> Account:
    """The account that calls; 401 when there is none, 403 when it is a customer's."""
    account = _account(shop, credentials)
    if not account.staff:
        raise HTTPException(403, "This is for the staff.")
    return account


SIGNED_IN = [Depends(signed_in)]
STAFF = [Depends(of_staff)]

# --------------------------------------------------------------------------- parameters


def _path(example: Any, what: str, **limits: Any) -> Any:
    return Path(description=what, examples=[example], openapi_examples={"existing": {"value": example}}, **limits)


Number = Annotated[int, Field(ge=1), INTEGER_TEXT]

CategoryId = Annotated[Number, _path(1, "A category.")]
ProductId = Annotated[Number, _path(1, "A product.")]
ReviewId = Annotated[Number, _path(1, "A review.")]
WishlistId = Annotated[Number, _path(1, "A wish list.")]
SubscriptionId = Annotated[Number, _path(1, "A subscription.")]
PaymentId = Annotated[Number, _path(1, "A payment.")]
WarehouseId = Annotated[Number, _path(1, "A warehouse.")]
SupplierId = Annotated[Number, _path(1, "A supplier.")]
CustomerId = Annotated[Uuid, _path(SEEDED_CUSTOMER, "A customer.", json_schema_extra={"format": "uuid"})]
CartId = Annotated[Uuid, _path(SEEDED_CART, "A cart.", json_schema_extra={"format": "uuid"})]
OrderId = Annotated[Uuid, _path(SEEDED_ORDER, "An order.", json_schema_extra={"format": "uuid"})]
CouponCode = Annotated[
    str, _path(SEEDED_COUPON, "A coupon's code.", min_length=4, max_length=16, pattern="^[A-Z0-9]{4,16}$")
]

Limit = Annotated[int, Field(ge=1, le=100), INTEGER_TEXT, Query(description="Maximum number of items to return.")]
Offset = Annotated[int, Field(ge=0, le=100000), INTEGER_TEXT, Query(description="Number of items to skip.")]
Flag = BooleanText | SkipJsonSchema[None]
PriceLimit = Annotated[float, Field(ge=0, le=100000), NUMBER_TEXT] | SkipJsonSchema[None]
OptionalId = Number | SkipJsonSchema[None]
Since = DateTime | SkipJsonSchema[None]

# --------------------------------------------------------------------------- answers

TOTAL: Mapping[str, Any] = {
    "X-Total-Count": {
        "description": "How many items there are in all, on every page.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }
}

LOCATION: Mapping[str, Any] = {
    "Location": {
        "description": "Where the new resource is.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference", "pattern": "^/"},
    }
}


def listing(description: str) -> dict[int | str, dict[str, Any]]:
    """The documented 200 of a list."""
    return {200: {"description": description, "headers": dict(TOTAL)}}


def creation(description: str, parameter: str, source: str, *operations: str) -> dict[int | str, dict[str, Any]]:
    """The documented 201 of a create operation, with a link to each operation that takes the new resource."""
    links = {
        operation: {"operationId": operation, "parameters": {parameter: f"$response.body#/{source}"}}
        for operation in operations
    }
    return {201: {"description": description, "headers": dict(LOCATION), "links": links}}


def fixed(seeded: bool) -> None:
    """Refuses to remove what always exists."""
    if seeded:
        raise HTTPException(409, "This one belongs to the shop's fixed stock and cannot be removed.")
