"""Carts, orders, payments, coupons."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic.json_schema import SkipJsonSchema

from examples.shop import schema, wiring
from examples.shop.problem import documented, not_found
from examples.shop.store import CART_LINES, new_uuid, now
from examples.shop.wiring import SIGNED_IN, STAFF, Limit, Offset, Store

router = APIRouter(route_class=wiring.ShopRoute)


@router.post(
    "/carts",
    status_code=201,
    tags=["carts"],
    dependencies=SIGNED_IN,
    responses=wiring.creation("The cart.", "cart_id", "id", "get_cart", "put_cart_item", "delete_cart")
    | documented(400, 401, 415, 422),
)
async def create_cart(shop: Store, response: Response, body: schema.CartInput) -> schema.Cart:
    """A new, empty cart."""
    made = schema.Cart(id=new_uuid(), items=[], **body.model_dump())
    response.headers["Location"] = f"/carts/{made.id}"
    return shop.carts.put(made.id, made)


@router.get("/carts/{cart_id}", tags=["carts"], dependencies=SIGNED_IN, responses=documented(401, 404, 422))
async def get_cart(shop: Store, cart_id: wiring.CartId) -> schema.Cart:
    """One cart with its lines."""
    if (found := shop.carts.get(cart_id)) is None:
        raise not_found("cart")
    return found


@router.put(
    "/carts/{cart_id}/items/{product_id}",
    tags=["carts"],
    dependencies=SIGNED_IN,
    responses=documented(400, 401, 404, 415, 422),
)
async def put_cart_item(
    shop: Store, cart_id: wiring.CartId, product_id: wiring.ProductId, body: schema.CartLineInput
) -> schema.CartLine:
    """The cart's line of this product, made or replaced. A cart keeps its newest 50 lines."""
    old = shop.carts.get(cart_id)
    if old is None or shop.products.get(product_id) is None:
        raise not_found("cart" if old is None else "product")
    line = schema.CartLine(product_id=product_id, quantity=body.quantity)
    others = [item for item in old.items if item.product_id != product_id]
    if not shop.carts.replace(cart_id, old.model_copy(update={"items": [*others, line][-CART_LINES:]})):
        raise not_found("cart")
    return line


@router.delete(
    "/carts/{cart_id}",
    status_code=204,
    tags=["carts"],
    dependencies=SIGNED_IN,
    responses=documented(401, 404, 409, 422),
)
async def delete_cart(shop: Store, cart_id: wiring.CartId) -> None:
    """Removes a cart. The one of the examples is fixed: 409."""
    wiring.fixed(shop.carts.is_seeded(cart_id))
    if shop.carts.remove(cart_id) is None:
        raise not_found("cart")


@router.get(
    "/orders", tags=["orders"], dependencies=SIGNED_IN, responses=wiring.listing("Orders.") | documented(401, 422)
)
async def list_orders(
    shop: Store,
    response: Response,
    limit: Limit = 20,
    offset: Offset = 0,
    status: Annotated[schema.OrderStatus | SkipJsonSchema[None], Query(description="Only in this state.")] = None,
    created_after: Annotated[
        wiring.Since, Query(description="Only younger than this.", examples=["2024-01-01T00:00:00Z"])
    ] = None,
) -> list[schema.Order]:
    """The orders, oldest first."""
    items, total = shop.orders.page(
        limit,
        offset,
        lambda item: (
            (status is None or item.status == status)
            and (created_after is None or item.created_at >= created_after.upper())
        ),
    )
    response.headers["X-Total-Count"] = str(total)
    return items


@router.post(
    "/orders",
    status_code=201,
    tags=["orders"],
    dependencies=SIGNED_IN,
    responses=wiring.creation("The order.", "order_id", "id", "get_order", "cancel_order")
    | documented(400, 401, 404, 415, 422),
)
async def create_order(
    shop: Store,
    response: Response,
    body: schema.OrderInput,
    x_channel: Annotated[
        Literal["web", "app", "phone"], Header(alias="X-Channel", description="Where the order comes from.")
    ] = "web",
) -> schema.Order:
    """A new order. The product must exist, or the answer is 404; it never runs out."""
    if (product := shop.products.get(body.product_id)) is None:
        raise not_found("product")
    made = schema.Order(
        id=new_uuid(),
        status="open",
        channel=x_channel,
        total=round(product.price * body.quantity, 2),
        created_at=now(),
        **body.model_dump(),
    )
    response.headers["Location"] = f"/orders/{made.id}"
    return shop.orders.put(made.id, made)


@router.get("/orders/{order_id}", tags=["orders"], dependencies=SIGNED_IN, responses=documented(401, 404, 422))
async def get_order(shop: Store, order_id: wiring.OrderId) -> schema.Order:
    """One order."""
    if (found := shop.orders.get(order_id)) is None:
        raise not_found("order")
    return found


@router.post("/orders/{order_id}/cancel", tags=["orders"], dependencies=SIGNED_IN, responses=documented(401, 404, 422))
async def cancel_order(shop: Store, order_id: wiring.OrderId) -> schema.Order:
    """The order, cancelled. Cancelling it again changes nothing."""
    if (old := shop.orders.get(order_id)) is None:
        raise not_found("order")
    made = old.model_copy(update={"status": "cancelled"})
    if not shop.orders.replace(order_id, made):
        raise not_found("order")
    return made


@router.get(
    "/payments",
    tags=["payments"],
    dependencies=STAFF,
    responses=wiring.listing("Payments.") | documented(401, 403, 422),
)
async def list_payments(shop: Store, response: Response, limit: Limit = 20, offset: Offset = 0) -> list[schema.Payment]:
    """The payments, oldest first."""
    items, total = shop.payments.page(limit, offset)
    response.headers["X-Total-Count"] = str(total)
    return items


@router.post(
    "/payments",
    status_code=201,
    tags=["payments"],
    dependencies=SIGNED_IN,
    responses=wiring.creation("The payment.", "payment_id", "id", "get_payment") | documented(400, 401, 404, 415, 422),
)
async def create_payment(shop: Store, response: Response, body: schema.PaymentInput) -> schema.Payment:
    """A payment for an order, or a part of one. The order must exist, or the answer is 404.

    What is paid for a cancelled order is kept as credit.
    """
    if shop.orders.get(body.order_id) is None:
        raise not_found("order")
    made = shop.payments.number(lambda id: schema.Payment(id=id, created_at=now(), **dict(body)))
    response.headers["Location"] = f"/payments/{made.id}"
    return made


@router.get("/payments/{payment_id}", tags=["payments"], dependencies=SIGNED_IN, responses=documented(401, 404, 422))
async def get_payment(shop: Store, payment_id: wiring.PaymentId) -> schema.Payment:
    """One payment."""
    if (found := shop.payments.get(payment_id)) is None:
        raise not_found("payment")
    return found


@router.get("/coupons", tags=["coupons"], responses=wiring.listing("Coupons.") | documented(422))
async def list_coupons(shop: Store, response: Response, limit: Limit = 20, offset: Offset = 0) -> list[schema.Coupon]:
    """The coupons, oldest first."""
    items, total = shop.coupons.page(limit, offset)
    response.headers["X-Total-Count"] = str(total)
    return items


@router.post(
    "/coupons",
    status_code=201,
    tags=["coupons"],
    dependencies=STAFF,
    responses=wiring.creation("The coupon.", "code", "code", "get_coupon", "delete_coupon")
    | documented(400, 401, 403, 415, 422),
)
async def create_coupon(shop: Store, response: Response, body: schema.CouponInput) -> schema.Coupon:
    """A new coupon; the shop makes its code."""
    made = schema.Coupon(code=secrets.token_hex(6).upper(), **body.model_dump())
    response.headers["Location"] = f"/coupons/{made.code}"
    return shop.coupons.put(made.code, made)


@router.get("/coupons/{code}", tags=["coupons"], responses=documented(404, 422))
async def get_coupon(shop: Store, code: wiring.CouponCode) -> schema.Coupon:
    """One coupon."""
    if (found := shop.coupons.get(code)) is None:
        raise not_found("coupon")
    return found


@router.delete(
    "/coupons/{code}",
    status_code=204,
    tags=["coupons"],
    dependencies=STAFF,
    responses=documented(401, 403, 404, 409, 422),
)
async def delete_coupon(shop: Store, code: wiring.CouponCode) -> None:
    """Withdraws a coupon. WELCOME10 is fixed: 409."""
    wiring.fixed(shop.coupons.is_seeded(code))
    if shop.coupons.remove(code) is None:
        raise not_found("coupon")
