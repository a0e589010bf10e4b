"""What goes in and out: the bodies of the shop's document.

Inputs refuse unknown properties and other JSON types. What the shop computes itself stands in outputs only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from examples.shop.kinds import NUMBER, WHOLE, Date, DateTime, Email, Text, Uuid


def _drop_defaults(schema: dict[str, Any]) -> None:
    for declared in schema.get("properties", {}).values():
        declared.pop("default", None)


class Input(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", regex_engine="rust-regex")


class Change(Input):
    """A partial update: what is absent stays as it is."""

    model_config = ConfigDict(json_schema_extra=_drop_defaults)


class Output(BaseModel):
    """A response body."""

    model_config = ConfigDict(extra="forbid")


def _example(*values: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(values)})


def _example_of_change(value: dict[str, Any]) -> ConfigDict:
    def extra(schema: dict[str, Any]) -> None:
        _drop_defaults(schema)
        schema["examples"] = [value]

    return ConfigDict(json_schema_extra=extra)


Id = Annotated[int, Strict(), Field(ge=1, examples=[1]), WHOLE]
Name = Annotated[Text, Field(min_length=1, max_length=80)]
Price = Annotated[
    float, Strict(), Field(ge=0.01, le=100000, description="In euros; nothing is free.", examples=[19.9]), NUMBER
]
Country = Annotated[
    Text,
    Field(min_length=2, max_length=2, pattern="^[A-Z]{2}$", description="ISO 3166-1, two letters.", examples=["DE"]),
]
Currency = Literal["EUR", "USD", "GBP", "JPY"]
Moment = Annotated[DateTime, Field(examples=["2024-05-01T12:00:00Z"])]
Cents = Annotated[float, Field(ge=0, allow_inf_nan=False)]


# --------------------------------------------------------------------------- catalogue


class CategoryInput(Input):
    model_config = _example({"name": "Garden", "slug": "garden"})
    name: Annotated[Text, Field(min_length=1, max_length=40, examples=["Garden"])]
    slug: Annotated[
        Text,
        Field(
            min_length=2,
            max_length=40,
            pattern="^[a-z0-9-]{2,40}$",
            examples=["garden"],
            description="For addresses: lower-case letters, digits and hyphens.",
        ),
    ]


class Category(Output):
    id: int = Field(ge=1)
    name: str = Field(min_length=1, max_length=40)
    slug: str = Field(min_length=2, max_length=40, pattern="^[a-z0-9-]{2,40}$")


class Dimensions(Input):
    """Outer measures of the parcel."""

    width_mm: Annotated[int, Strict(), Field(ge=1, le=5000, examples=[120]), WHOLE]
    height_mm: Annotated[int, Strict(), Field(ge=1, le=5000, examples=[80]), WHOLE]
    depth_mm: Annotated[int, Strict(), Field(ge=1, le=5000, examples=[60]), WHOLE]


Tag = Annotated[Text, Field(min_length=1, max_length=20)]


class ProductInput(Input):
    model_config = _example(
        {
            "name": "Watering can",
            "price": 19.9,
            "category_id": 1,
            "tags": ["green", "steel"],
            "description": "Ten litres.",
            "dimensions": {"width_mm": 400, "height_mm": 350, "depth_mm": 200},
        }
    )
    name: Annotated[Name, Field(examples=["Watering can"])]
    price: Price
    category_id: Id = Field(description="An existing category; 1 and 2 always exist.")
    description: Annotated[Text, Field(max_length=500)] | None = None
    tags: Annotated[list[Tag], Field(max_length=5)] = Field(default=[])
    dimensions: Dimensions | None = None


class ProductChange(Change):
    model_config = _example_of_change({"price": 17.5, "description": "Nine litres, in fact."})
    name: Annotated[Name, Field(examples=["Big watering can"])] = ""
    price: Price = 0
    description: Annotated[Text, Field(max_length=500)] | None = None


class Product(Output):
    id: int = Field(ge=1)
    name: str = Field(min_length=1, max_length=80)
    price: float = Field(ge=0.01, le=100000)
    category_id: int = Field(ge=1)
    description: Annotated[str, Field(max_length=500)] | None
    tags: list[Annotated[str, Field(min_length=1, max_length=20)]] = Field(max_length=5)
    dimensions: Dimensions | None
    in_stock: bool
    created_at: Moment


class ReviewInput(Input):
    model_config = _example({"author": "Ada", "rating": 5, "text": "It waters."})
    author: Annotated[Text, Field(min_length=1, max_length=40, examples=["Ada"])]
    rating: Annotated[int, Strict(), Field(ge=1, le=5, description="Stars.", examples=[5]), WHOLE]
    text: Annotated[Text, Field(max_length=1000)] | None = None


class Review(Output):
    id: int = Field(ge=1)
    product_id: int = Field(ge=1)
    author: str = Field(min_length=1, max_length=40)
    rating: int = Field(ge=1, le=5)
    text: Annotated[str, Field(max_length=1000)] | None
    created_at: Moment


# --------------------------------------------------------------------------- customers


class Address(Input):
    street: Annotated[Text, Field(min_length=1, max_length=80, examples=["Lindenstr. 1"])]
    city: Annotated[Text, Field(min_length=1, max_length=60, examples=["Köln"])]
    country: Country


class CustomerInput(Input):
    model_config = _example(
        {
            "name": "Ada Lovelace",
            "email": "ada@example.org",
            "address": {"street": "Lindenstr. 1", "city": "Köln", "country": "DE"},
            "newsletter": True,
        }
    )
    name: Annotated[Name, Field(examples=["Ada Lovelace"])]
    email: Annotated[Email, Field(examples=["ada@example.org"])]
    address: Address
    newsletter: bool = Field(default=False, strict=True)


class CustomerChange(Change):
    model_config = _example_of_change({"name": "Ada King", "newsletter": False})
    name: Annotated[Name, Field(examples=["Ada King"])] = ""
    email: Annotated[Email, Field(examples=["ada.king@example.org"])] = ""
    address: Address = Field(default=Address(street="-", city="-", country="DE"))
    newsletter: bool = Field(default=False, strict=True)


class Customer(Output):
    id: str = Field(json_schema_extra={"format": "uuid"})
    name: str = Field(min_length=1, max_length=80)
    email: str = Field(min_length=6, max_length=64, json_schema_extra={"format": "email"})
    address: Address
    newsletter: bool
    loyalty_points: int = Field(ge=0, description="Counted by the shop.")
    created_at: Moment


class WishlistInput(Input):
    model_config = _example({"title": "Birthday", "product_ids": [1, 2]})
    title: Annotated[Text, Field(min_length=1, max_length=60, examples=["Birthday"])]
    product_ids: Annotated[
        list[Id], Field(max_length=50, description="Products that are gone may be wished for, too.", examples=[[1, 2]])
    ] = Field(default=[])


class Wishlist(Output):
    id: int = Field(ge=1)
    title: str = Field(min_length=1, max_length=60)
    product_ids: list[Annotated[int, Field(ge=1)]] = Field(max_length=50)


class SubscriptionInput(Input):
    model_config = _example(
        {"email": "ada@example.org", "label": "Ada's tools", "topic": "offers", "frequency": "weekly", "note": None}
    )
    email: Annotated[Email, Field(examples=["ada@example.org"])]
    label: Annotated[Text, Field(min_length=1, max_length=60, examples=["Ada's tools"])]
    topic: Literal["news", "offers"]
    frequency: Literal["daily", "weekly", "monthly"] = "weekly"
    note: Annotated[Text, Field(max_length=200)] | None = None


class SubscriptionContent(Input):
    model_config = _example({"label": "Ada's seeds", "topic": "news", "frequency": "monthly"})
    label: Annotated[Text, Field(min_length=1, max_length=60, examples=["Ada's seeds"])]
    topic: Literal["news", "offers"]
    frequency: Literal["daily", "weekly", "monthly"]
    note: Annotated[Text, Field(max_length=200)] | None = None


class Subscription(Output):
    id: int = Field(ge=1)
    email: str = Field(min_length=6, max_length=64, json_schema_extra={"format": "email"})
    label: str = Field(min_length=1, max_length=60)
    topic: Literal["news", "offers"]
    frequency: Literal["daily", "weekly", "monthly"]
    note: Annotated[str, Field(max_length=200)] | None


# --------------------------------------------------------------------------- sales


class CartInput(Input):
    model_config = _example({"currency": "EUR", "note": "gift wrap, please"})
    currency: Currency = "EUR"
    note: Annotated[Text, Field(max_length=200)] | None = None


class CartLineInput(Input):
    model_config = _example({"quantity": 2})
    quantity: Annotated[int, Strict(), Field(ge=1, le=99, examples=[2]), WHOLE]


class CartLine(Output):
    product_id: int = Field(ge=1)
    quantity: int = Field(ge=1, le=99)


class Cart(Output):
    id: str = Field(json_schema_extra={"format": "uuid"})
    currency: Currency
    note: Annotated[str, Field(max_length=200)] | None
    items: list[CartLine] = Field(max_length=50)


class OrderInput(Input):
    model_config = _example({"product_id": 1, "quantity": 2, "priority": "normal"})
    product_id: Id = Field(description="An existing product; 1, 2 and 3 always exist.")
    quantity: Annotated[
        int, Strict(), Field(ge=1, le=100, description="At most a hundred an order.", examples=[2]), WHOLE
    ]
    priority: Literal["low", "normal", "high"] = "normal"
    comment: Annotated[Text, Field(max_length=200)] | None = None


OrderStatus = Literal["open", "paid", "shipped", "cancelled"]


class Order(Output):
    id: str = Field(json_schema_extra={"format": "uuid"})
    product_id: int = Field(ge=1)
    quantity: int = Field(ge=1, le=100)
    priority: Literal["low", "normal", "high"]
    comment: Annotated[str, Field(max_length=200)] | None
    channel: Literal["web", "app", "phone"]
    status: OrderStatus
    total: Cents
    created_at: Moment


class CardSource(Input):
    kind: Literal["card"]
    last4: Annotated[Text, Field(min_length=4, max_length=4, pattern="^[0-9]{4}$", examples=["4242"])]


class TransferSource(Input):
    kind: Literal["transfer"]
    bank: Annotated[Text, Field(min_length=1, max_length=60, examples=["Sparkasse"])]


Source = Annotated[CardSource | TransferSource, Field(discriminator="kind")]

SEEDED_ORDER = "0b7d3f5e-6a57-4c3c-9f0e-2f1f5f6b8a01"
SEEDED_CART = "0b7d3f5e-6a57-4c3c-9f0e-2f1f5f6b8a02"
SEEDED_CUSTOMER = "0b7d3f5e-6a57-4c3c-9f0e-2f1f5f6b8a03"
SEEDED_COUPON = "WELCOME10"


class PaymentInput(Input):
    model_config = _example({"order_id": SEEDED_ORDER, "amount": 39.8, "source": {"kind": "card", "last4": "4242"}})
    order_id: Annotated[
        Uuid, Field(description=f"An existing order; {SEEDED_ORDER} always exists.", examples=[SEEDED_ORDER])
    ]
    amount: Annotated[float, Strict(), Field(ge=0.01, le=10000, examples=[39.8]), NUMBER]
    source: Source


class Payment(Output):
    id: int = Field(ge=1)
    order_id: str = Field(json_schema_extra={"format": "uuid"})
    amount: float = Field(ge=0.01, le=10000)
    source: Source
    created_at: Moment


class CouponInput(Input):
    model_config = _example({"percent": 10, "valid_until": "2030-12-31", "note": "spring sale"})
    percent: Annotated[int, Strict(), Field(ge=1, le=90, examples=[10]), WHOLE]
    valid_until: Annotated[Date, Field(description="The last day.", examples=["2030-12-31"])]
    note: Annotated[Text, Field(max_length=100)] | None = None


class Coupon(Output):
    code: str = Field(min_length=4, max_length=16, pattern="^[A-Z0-9]{4,16}$", description="Made by the shop.")
    percent: int = Field(ge=1, le=90)
    valid_until: str = Field(json_schema_extra={"format": "date"})
    note: Annotated[str, Field(max_length=100)] | None


# --------------------------------------------------------------------------- supply


class WarehouseInput(Input):
    model_config = _example({"name": "North", "city": "Bremen", "capacity": 1200})
    name: Annotated[Text, Field(min_length=1, max_length=60, examples=["North"])]
    city: Annotated[Text, Field(min_length=1, max_length=60, examples=["Bremen"])]
    capacity: Annotated[int, Strict(), Field(ge=0, le=1000000, description="Pallets.", examples=[1200]), WHOLE]


class Warehouse(Output):
    id: int = Field(ge=1)
    name: str = Field(min_length=1, max_length=60)
    city: str = Field(min_length=1, max_length=60)
    capacity: int = Field(ge=0, le=1000000)


class SupplierInput(Input):
    model_config = _example({"name": "Tools & Sons", "country": "DE", "email": "sales@example.org"})
    name: Annotated[Name, Field(examples=["Tools & Sons"])]
    country: Country
    email: Annotated[Email, Field(examples=["sales@example.org"])]


class Supplier(Output):
    id: int = Field(ge=1)
    name: str = Field(min_length=1, max_length=80)
    country: str = Field(pattern="^[A-Z]{2}$")
    email: str = Field(json_schema_extra={"format": "email"})


class StockLevel(Output):
    product_id: int = Field(ge=1)
    quantity: int = Field(ge=0)


class SalesReport(Output):
    days: int = Field(ge=1, le=365)
    currency: Currency
    orders: int = Field(ge=0)
    revenue: Cents


class InventoryReport(Output):
    products: int = Field(ge=0)
    total_units: int = Field(ge=0)
    warehouses: int = Field(ge=0)


class ShippingQuote(Output):
    country: str = Field(pattern="^[A-Z]{2}$")
    weight_kg: float = Field(gt=0, le=100)
    price: Cents
    carrier: Literal["post", "express"]


class ExchangeRate(Output):
    code: Currency
    name: str
    per_euro: float = Field(gt=0)


class Health(Output):
    status: Literal["ok"]
    version: str


# --------------------------------------------------------------------------- accounts


class LoginInput(Input):
    model_config = _example({"username": "guest", "password": "guest-guest"})
    username: Annotated[Text, Field(min_length=1, max_length=64, examples=["guest"])]
    password: Annotated[
        Text, Field(min_length=1, max_length=128, examples=["guest-guest"], json_schema_extra={"format": "password"})
    ]


class Login(Output):
    token: str = Field(min_length=32, description="Send it as `Authorization: Bearer …`.")
    username: str
    role: Literal["customer", "staff"]


class SessionView(Output):
    username: str
    role: Literal["customer", "staff"]
    service: bool = Field(description="A service token: it has no session that could end.")
