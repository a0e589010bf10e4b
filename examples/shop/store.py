"""The shop's memory: bounded, and safe to use from any thread."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from threading import RLock
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

from examples.shop import schema
from examples.shop.settings import GUEST, Settings

Key = TypeVar("Key", int, str)
Item = TypeVar("Item", bound=BaseModel)

CAPACITY = 20_000
"""Items a collection keeps; the oldest that is not seeded makes room."""

CART_LINES = 50


def now() -> str:
    """The current second, as the document's date-time."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_uuid() -> str:
    return str(uuid.uuid4())


class Collection(Generic[Key, Item]):
    """Items by key, oldest first. Seeded items can be changed but never leave."""

    def __init__(self, seeded: Iterable[tuple[Key, Item]] = ()) -> None:
        self._lock = RLock()
        self._items: dict[Key, Item] = dict(seeded)
        self._seeded: frozenset[Key] = frozenset(self._items)
        self._last = max([0, *(int(key) for key in self._items if isinstance(key, int))])

    def get(self, key: Key) -> Item | None:
        return self._items.get(key)

    def __len__(self) -> int:
        return len(self._items)

    def is_seeded(self, key: Key) -> bool:
        return key in self._seeded

    def number(self, make: Callable[[int], Item]) -> Item:
        """The item that `make` builds for the next free number, put under it."""
        with self._lock:
            self._last += 1
            return self.put(self._last, make(self._last))  # type: ignore[arg-type]

    def put(self, key: Key, item: Item) -> Item:
        with self._lock:
            self._items[key] = item
            if len(self._items) > CAPACITY:
                del self._items[next(key for key in self._items if key not in self._seeded)]
        return item

    def replace(self, key: Key, item: Item) -> bool:
        """Whether the key was there (and now holds `item`)."""
        with self._lock:
            if key not in self._items:
                return False
            self._items[key] = item
            return True

    def remove(self, key: Key) -> Item | None:
        """The item that was there. Seeded ones are not for this."""
        with self._lock:
            return self._items.pop(key, None)

    def page(self, limit: int, offset: int, wanted: Callable[[Item], bool] | None = None) -> tuple[list[Item], int]:
        """At most `limit` items from `offset` on, and how many there are in all."""
        with self._lock:
            if wanted is None:
                return list(islice(self._items.values(), offset, offset + limit)), len(self._items)
            items = [item for item in self._items.values() if wanted(item)]
        return items[offset : offset + limit], len(items)


@dataclass(frozen=True, kw_only=True)
class Account:
    username: str
    role: Literal["customer", "staff"]
    service: bool = False

    @property
    def staff(self) -> bool:
        return self.role == "staff"


def _product(number: int, name: str, price: float, category: int) -> schema.Product:
    return schema.Product(
        id=number,
        name=name,
        price=price,
        category_id=category,
        description=None,
        tags=["seed"],
        dimensions=None,
        in_stock=True,
        created_at="2024-01-01T00:00:00Z",
    )


@dataclass
class Shop:
    """Everything that is there, and who may come in."""

    settings: Settings
    categories: Collection[int, schema.Category] = field(
        default_factory=lambda: Collection(
            (n, schema.Category(id=n, name=name, slug=name.lower())) for n, name in ((1, "Tools"), (2, "Seeds"))
        )
    )
    products: Collection[int, schema.Product] = field(
        default_factory=lambda: Collection(
            (product.id, product)
            for product in (
                _product(1, "Spade", 24.5, 1),
                _product(2, "Rake", 18, 1),
                _product(3, "Tomato seeds", 2.2, 2),
            )
        )
    )
    reviews: Collection[int, schema.Review] = field(
        default_factory=lambda: Collection(
            (
                n,
                schema.Review(
                    id=n, product_id=1, author=who, rating=stars, text=None, created_at="2024-01-02T00:00:00Z"
                ),
            )
            for n, who, stars in ((1, "Ada", 5), (2, "Bob", 2))
        )
    )
    customers: Collection[str, schema.Customer] = field(
        default_factory=lambda: Collection(
            [
                (
                    schema.SEEDED_CUSTOMER,
                    schema.Customer(
                        id=schema.SEEDED_CUSTOMER,
                        name="Grace Hopper",
                        email="grace@example.org",
                        address=schema.Address(street="Hafenstr. 3", city="Hamburg", country="DE"),
                        newsletter=False,
                        loyalty_points=120,
                        created_at="2024-01-01T00:00:00Z",
                    ),
                )
            ]
        )
    )
    wishlists: Collection[int, schema.Wishlist] = field(
        default_factory=lambda: Collection([(1, schema.Wishlist(id=1, title="Spring", product_ids=[3]))])
    )
    subscriptions: Collection[int, schema.Subscription] = field(
        default_factory=lambda: Collection(
            [
                (
                    1,
                    schema.Subscription(
                        id=1, email="grace@example.org", label="News", topic="news", frequency="weekly", note=None
                    ),
                )
            ]
        )
    )
    carts: Collection[str, schema.Cart] = field(
        default_factory=lambda: Collection(
            [(schema.SEEDED_CART, schema.Cart(id=schema.SEEDED_CART, currency="EUR", note=None, items=[]))]
        )
    )
    orders: Collection[str, schema.Order] = field(
        default_factory=lambda: Collection(
            (
                key,
                schema.Order(
                    id=key,
                    product_id=1,
                    quantity=1,
                    priority="normal",
                    comment=None,
                    channel="web",
                    status="open",
                    total=24.5,
                    created_at="2024-01-03T00:00:00Z",
                ),
            )
            for key in (schema.SEEDED_ORDER, "0b7d3f5e-6a57-4c3c-9f0e-2f1f5f6b8a04")
        )
    )
    payments: Collection[int, schema.Payment] = field(
        default_factory=lambda: Collection(
            [
                (
                    1,
                    schema.Payment(
                        id=1,
                        order_id=schema.SEEDED_ORDER,
                        amount=24.5,
                        source=schema.CardSource(kind="card", last4="4242"),
                        created_at="2024-01-03T00:00:00Z",
                    ),
                )
            ]
        )
    )
    coupons: Collection[str, schema.Coupon] = field(
        default_factory=lambda: Collection(
            [
                (
                    schema.SEEDED_COUPON,
                    schema.Coupon(code=schema.SEEDED_COUPON, percent=10, valid_until="2030-12-31", note=None),
                )
            ]
        )
    )
    warehouses: Collection[int, schema.Warehouse] = field(
        default_factory=lambda: Collection([(1, schema.Warehouse(id=1, name="Main", city="Kassel", capacity=5000))])
    )
    suppliers: Collection[int, schema.Supplier] = field(
        default_factory=lambda: Collection(
            [(1, schema.Supplier(id=1, name="Eisen Weber", country="DE", email="info@example.org"))]
        )
    )
    _sessions: dict[str, Account] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)

    def log_in(self, username: str, password: str) -> tuple[str, Account] | None:
        """A new token and whose it is; None when the pair is wrong."""
        roles: dict[tuple[str, str], Literal["customer", "staff"]] = {
            GUEST: "customer",
            ("customer", self.settings.token): "customer",
            ("staff", self.settings.admin_token): "staff",
        }
        if self.settings.username and self.settings.password:
            roles[self.settings.username, self.settings.password] = "staff"
        role = roles.get((username, password))
        if role is None:
            return None
        token, account = secrets.token_hex(24), Account(username=username, role=role)
        with self._lock:
            self._sessions[token] = account
            if len(self._sessions) > CAPACITY:
                del self._sessions[next(iter(self._sessions))]
        return token, account

    def account(self, token: str) -> Account | None:
        """Whose token it is."""
        if secrets.compare_digest(token.encode(), self.settings.admin_token.encode()):
            return Account(username="staff-service", role="staff", service=True)
        if secrets.compare_digest(token.encode(), self.settings.token.encode()):
            return Account(username="customer-service", role="customer", service=True)
        return self._sessions.get(token)

    def end_session(self, token: str) -> None:
        """The token is worth nothing from now on; service tokens have no session and stay."""
        with self._lock:
            self._sessions.pop(token, None)
