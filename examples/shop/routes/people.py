"""Customers, wish lists, subscriptions, sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from starlette.exceptions import HTTPException

from examples.shop import schema, wiring
from examples.shop.problem import documented, not_found
from examples.shop.store import Account, new_uuid, now
from examples.shop.wiring import SIGNED_IN, STAFF, Limit, Offset, Store

router = APIRouter(route_class=wiring.ShopRoute)

Caller = Annotated[tuple[Account, str], Depends(wiring.signed_in)]


@router.get(
    "/customers",
    tags=["customers"],
    dependencies=STAFF,
    responses=wiring.listing("Customers.") | documented(401, 403, 422),
)
async def list_customers(
    shop: Store, response: Response, limit: Limit = 20, offset: Offset = 0
) -> list[schema.Customer]:
    """The customers, oldest first."""
    items, total = shop.customers.page(limit, offset)
    response.headers["X-Total-Count"] = str(total)
    return items


@router.post(
    "/customers",
    status_code=201,
    tags=["customers"],
    dependencies=SIGNED_IN,
    responses=wiring.creation(
        "The customer.", "customer_id", "id", "get_customer", "change_customer", "delete_customer"
    )
    | documented(400, 401, 415, 422),
)
async def create_customer(shop: Store, response: Response, body: schema.CustomerInput) -> schema.Customer:
    """A new customer. The same e-mail address may belong to several."""
    made = schema.Customer(id=new_uuid(), loyalty_points=0, created_at=now(), **dict(body))
    response.headers["Location"] = f"/customers/{made.id}"
    return shop.customers.put(made.id, made)


@router.get("/customers/{customer_id}", tags=["customers"], dependencies=SIGNED_IN, responses=documented(401, 404, 422))
async def get_customer(shop: Store, customer_id: wiring.CustomerId) -> schema.Customer:
    """One customer."""
    if (found := shop.customers.get(customer_id)) is None:
        raise not_found("customer")
    return found


@router.patch(
    "/customers/{customer_id}",
    tags=["customers"],
    dependencies=SIGNED_IN,
    responses=documented(400, 401, 404, 415, 422),
)
async def change_customer(shop: Store, customer_id: wiring.CustomerId, body: schema.CustomerChange) -> schema.Customer:
    """The customer with what was sent changed; what was not sent stays."""
    if (old := shop.customers.get(customer_id)) is None:
        raise not_found("customer")
    made = old.model_copy(update={name: getattr(body, name) for name in body.model_fields_set})
    if not shop.customers.replace(customer_id, made):
        raise not_found("customer")
    return made


@router.delete(
    "/customers/{customer_id}",
    status_code=204,
    tags=["customers"],
    dependencies=STAFF,
    responses=documented(401, 403, 404, 409, 422),
)
async def delete_customer(shop: Store, customer_id: wiring.CustomerId) -> None:
    """Removes a customer. The one of the examples is fixed: 409."""
    wiring.fixed(shop.customers.is_seeded(customer_id))
    if shop.customers.remove(customer_id) is None:
        raise not_found("customer")


@router.post(
    "/wishlists",
    status_code=201,
    tags=["customers"],
    dependencies=SIGNED_IN,
    responses=wiring.creation("The wish list.", "wishlist_id", "id", "get_wishlist", "delete_wishlist")
    | documented(400, 401, 415, 422),
)
async def create_wishlist(shop: Store, response: Response, body: schema.WishlistInput) -> schema.Wishlist:
    """A new wish list."""
    made = shop.wishlists.number(lambda id: schema.Wishlist(id=id, **body.model_dump()))
    response.headers["Location"] = f"/wishlists/{made.id}"
    return made


@router.get("/wishlists/{wishlist_id}", tags=["customers"], responses=documented(404, 422))
async def get_wishlist(shop: Store, wishlist_id: wiring.WishlistId) -> schema.Wishlist:
    """One wish list. Once deleted it is gone for everybody: 404."""
    if (found := shop.wishlists.get(wishlist_id)) is None:
        raise not_found("wish list")
    return found


@router.delete(
    "/wishlists/{wishlist_id}",
    status_code=204,
    tags=["customers"],
    dependencies=SIGNED_IN,
    responses=documented(401, 404, 409, 422),
)
async def delete_wishlist(shop: Store, wishlist_id: wiring.WishlistId) -> None:
    """Removes a wish list. Wish list 1 is fixed: 409."""
    wiring.fixed(shop.wishlists.is_seeded(wishlist_id))
    if shop.wishlists.remove(wishlist_id) is None:
        raise not_found("wish list")


@router.post(
    "/subscriptions",
    status_code=201,
    tags=["customers"],
    dependencies=SIGNED_IN,
    responses=wiring.creation(
        "The subscription.", "subscription_id", "id", "get_subscription", "replace_subscription", "delete_subscription"
    )
    | documented(400, 401, 415, 422),
)
async def create_subscription(shop: Store, response: Response, body: schema.SubscriptionInput) -> schema.Subscription:
    """A new subscription to the shop's letters."""
    made = shop.subscriptions.number(lambda id: schema.Subscription(id=id, **body.model_dump()))
    response.headers["Location"] = f"/subscriptions/{made.id}"
    return made


@router.get(
    "/subscriptions/{subscription_id}", tags=["customers"], dependencies=SIGNED_IN, responses=documented(401, 404, 422)
)
async def get_subscription(shop: Store, subscription_id: wiring.SubscriptionId) -> schema.Subscription:
    """One subscription."""
    if (found := shop.subscriptions.get(subscription_id)) is None:
        raise not_found("subscription")
    return found


@router.put(
    "/subscriptions/{subscription_id}",
    tags=["customers"],
    dependencies=SIGNED_IN,
    responses=documented(400, 401, 404, 415, 422),
)
async def replace_subscription(
    shop: Store, subscription_id: wiring.SubscriptionId, body: schema.SubscriptionContent
) -> schema.Subscription:
    """The subscription with everything but its address replaced; the same request again changes nothing more."""
    if (old := shop.subscriptions.get(subscription_id)) is None:
        raise not_found("subscription")
    made = old.model_copy(update=body.model_dump())
    if not shop.subscriptions.replace(subscription_id, made):
        raise not_found("subscription")
    return made


@router.delete(
    "/subscriptions/{subscription_id}",
    status_code=204,
    tags=["customers"],
    dependencies=SIGNED_IN,
    responses=documented(401, 404, 409, 422),
)
async def delete_subscription(shop: Store, subscription_id: wiring.SubscriptionId) -> None:
    """Ends a subscription. Subscription 1 is fixed: 409."""
    wiring.fixed(shop.subscriptions.is_seeded(subscription_id))
    if shop.subscriptions.remove(subscription_id) is None:
        raise not_found("subscription")


# --------------------------------------------------------------------------- accounts


@router.post(
    "/sessions",
    status_code=201,
    tags=["account"],
    responses=documented(400, 401, 415, 422) | {201: {"description": "A session has begun."}},
)
async def log_in(shop: Store, body: schema.LoginInput) -> schema.Login:
    """A token for a user name and a password. `guest` with `guest-guest` is open to everybody.

    The service accounts `customer` and `staff` log in with their token as password, to have a session that can end.
    """
    if (found := shop.log_in(body.username, body.password)) is None:
        raise HTTPException(401, "User name or password is wrong.", headers={"WWW-Authenticate": "Bearer"})
    token, account = found
    return schema.Login(token=token, username=account.username, role=account.role)


@router.get("/session", tags=["account"], responses=documented(401))
async def get_session(caller: Caller) -> schema.SessionView:
    """Who is calling."""
    account, _ = caller
    return schema.SessionView(username=account.username, role=account.role, service=account.service)


@router.post("/session/logout", status_code=204, tags=["account"], responses=documented(401))
async def log_out(shop: Store, caller: Caller) -> None:
    """Ends the session of the token that is used; the token is worth nothing afterwards. Service tokens stay."""
    shop.end_session(caller[1])


@router.delete("/account", status_code=204, tags=["account"], responses=documented(401))
async def delete_account(shop: Store, caller: Caller) -> None:
    """Erases what is kept of the caller's own account and ends its session; logging in again begins afresh.

    Service accounts stay.
    """
    shop.end_session(caller[1])
