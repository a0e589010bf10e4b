"""Warehouses, suppliers, stock, reports and what else is only read."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from examples.shop import schema, wiring
from examples.shop.kinds import INTEGER_TEXT, NUMBER_TEXT
from examples.shop.problem import documented, not_found
from examples.shop.wiring import STAFF, Limit, Offset, Store

router = APIRouter(route_class=wiring.ShopRoute)

VERSION = "1.0.0"

UNITS = 500
"""Of every product, for ever: the warehouses restock themselves."""


class Spreadsheet(Response):
    media_type = "text/csv"


@router.get("/health", tags=["service"])
async def get_health() -> schema.Health:
    """Whether the shop is open."""
    return schema.Health(status="ok", version=VERSION)


@router.get("/warehouses", tags=["supply"], responses=wiring.listing("Warehouses.") | documented(422))
async def list_warehouses(
    shop: Store, response: Response, limit: Limit = 20, offset: Offset = 0
) -> list[schema.Warehouse]:
    """The warehouses, oldest first."""
    items, total = shop.warehouses.page(limit, offset)
    response.headers["X-Total-Count"] = str(total)
    return items


@router.post(
    "/warehouses",
    status_code=201,
    tags=["supply"],
    dependencies=STAFF,
    responses=wiring.creation(
        "The warehouse.", "warehouse_id", "id", "get_warehouse", "replace_warehouse", "delete_warehouse"
    )
    | documented(400, 401, 403, 415, 422),
)
async def create_warehouse(shop: Store, response: Response, body: schema.WarehouseInput) -> schema.Warehouse:
    """A new warehouse."""
    made = shop.warehouses.number(lambda id: schema.Warehouse(id=id, **body.model_dump()))
    response.headers["Location"] = f"/warehouses/{made.id}"
    return made


@router.get("/warehouses/{warehouse_id}", tags=["supply"], responses=documented(404, 422))
async def get_warehouse(shop: Store, warehouse_id: wiring.WarehouseId) -> schema.Warehouse:
    """One warehouse."""
    if (found := shop.warehouses.get(warehouse_id)) is None:
        raise not_found("warehouse")
    return found


@router.put(
    "/warehouses/{warehouse_id}",
    status_code=204,
    tags=["supply"],
    dependencies=STAFF,
    responses=documented(400, 401, 403, 404, 415, 422),
)
async def replace_warehouse(shop: Store, warehouse_id: wiring.WarehouseId, body: schema.WarehouseInput) -> None:
    """Replaces a warehouse; the same request again changes nothing more."""
    if not shop.warehouses.replace(warehouse_id, schema.Warehouse(id=warehouse_id, **body.model_dump())):
        raise not_found("warehouse")


@router.delete(
    "/warehouses/{warehouse_id}",
    status_code=204,
    tags=["supply"],
    dependencies=STAFF,
    responses=documented(401, 403, 404, 409, 422),
)
async def delete_warehouse(shop: Store, warehouse_id: wiring.WarehouseId) -> None:
    """Removes a warehouse. Warehouse 1 is fixed: 409."""
    wiring.fixed(shop.warehouses.is_seeded(warehouse_id))
    if shop.warehouses.remove(warehouse_id) is None:
        raise not_found("warehouse")


@router.get("/suppliers", tags=["supply"], responses=wiring.listing("Suppliers.") | documented(422))
async def list_suppliers(
    shop: Store, response: Response, limit: Limit = 20, offset: Offset = 0
) -> list[schema.Supplier]:
    """The suppliers, oldest first."""
    items, total = shop.suppliers.page(limit, offset)
    response.headers["X-Total-Count"] = str(total)
    return items


@router.post(
    "/suppliers",
    status_code=201,
    tags=["supply"],
    dependencies=STAFF,
    responses=wiring.creation("The supplier.", "supplier_id", "id", "get_supplier")
    | documented(400, 401, 403, 415, 422),
)
async def create_supplier(shop: Store, response: Response, body: schema.SupplierInput) -> schema.Supplier:
    """A new supplier. Suppliers stay for ever."""
    made = shop.suppliers.number(lambda id: schema.Supplier(id=id, **body.model_dump()))
    response.headers["Location"] = f"/suppliers/{made.id}"
    return made


@router.get("/suppliers/{supplier_id}", tags=["supply"], responses=documented(404, 422))
async def get_supplier(shop: Store, supplier_id: wiring.SupplierId) -> schema.Supplier:
    """One supplier."""
    if (found := shop.suppliers.get(supplier_id)) is None:
        raise not_found("supplier")
    return found


@router.get(
    "/stock", tags=["supply"], dependencies=STAFF, responses=wiring.listing("Stock levels.") | documented(401, 403, 422)
)
async def list_stock(shop: Store, response: Response, limit: Limit = 20, offset: Offset = 0) -> list[schema.StockLevel]:
    """How much there is of each product."""
    items, total = shop.products.page(limit, offset)
    response.headers["X-Total-Count"] = str(total)
    return [schema.StockLevel(product_id=item.id, quantity=UNITS) for item in items]


@router.get("/reports/sales", tags=["reports"], dependencies=STAFF, responses=documented(401, 403, 422))
async def get_sales_report(
    shop: Store,
    days: Annotated[
        int, Field(ge=1, le=365), INTEGER_TEXT, Query(description="How many days back, a year at most.")
    ] = 30,
    currency: Annotated[schema.Currency, Query(description="What revenue is counted in.")] = "EUR",
) -> schema.SalesReport:
    """What was sold."""
    orders, total = shop.orders.page(100_000, 0)
    revenue = sum(order.total for order in orders) * _RATES[currency][1]
    return schema.SalesReport(days=days, currency=currency, orders=total, revenue=round(revenue, 2))


@router.get("/reports/inventory", tags=["reports"], dependencies=STAFF, responses=documented(401, 403))
async def get_inventory_report(shop: Store) -> schema.InventoryReport:
    """What the warehouses hold."""
    products = len(shop.products)
    return schema.InventoryReport(products=products, total_units=products * UNITS, warehouses=len(shop.warehouses))


@router.get(
    "/reports/inventory.csv",
    tags=["reports"],
    dependencies=STAFF,
    response_class=Spreadsheet,
    responses=documented(401, 403) | {200: {"description": "A line for each product."}},
)
async def get_inventory_csv(shop: Store) -> Response:
    """What the warehouses hold of each of the first hundred products, for spreadsheets."""
    items, _ = shop.products.page(100, 0)
    lines = "".join(f"{item.id},{UNITS}\r\n" for item in items)
    return Spreadsheet(f"product_id,quantity\r\n{lines}")


@router.get("/recommendations", tags=["catalogue"], responses=documented(422))
async def get_recommendations(
    shop: Store, product_id: Annotated[wiring.OptionalId, Query(description="What is looked at.", examples=[1])] = None
) -> list[schema.Product]:
    """Up to three products that go well with another, or with anything."""
    items, _ = shop.products.page(4, 0)
    return [item for item in items if item.id != product_id][:3]


Weight = Annotated[float, Field(gt=0, le=100), NUMBER_TEXT]


@router.get("/shipping-quotes", tags=["orders"], responses=documented(422))
async def get_shipping_quotes(
    country: Annotated[
        str, Query(min_length=2, max_length=2, pattern="^[A-Z]{2}$", description="ISO 3166-1.", examples=["DE"])
    ],
    weight_kg: Annotated[Weight, Query(description="Above 0, at most 100.", examples=[2.5])],
) -> list[schema.ShippingQuote]:
    """What it costs to send a parcel."""

    def quote(carrier: Literal["post", "express"], base: float) -> schema.ShippingQuote:
        price = round(base + weight_kg * 0.9, 2)
        return schema.ShippingQuote(country=country, weight_kg=weight_kg, price=price, carrier=carrier)

    return [quote("post", 4.9), quote("express", 12.9)]


_RATES: dict[str, tuple[str, float]] = {
    "EUR": ("Euro", 1.0),
    "USD": ("US dollar", 1.08),
    "GBP": ("Pound sterling", 0.85),
    "JPY": ("Yen", 168.2),
}


@router.get("/currencies/{code}", tags=["service"], responses=documented(422))
async def get_currency(
    code: Annotated[
        schema.Currency,
        Path(description="ISO 4217.", examples=["USD"], openapi_examples={"existing": {"value": "USD"}}),
    ],
) -> schema.ExchangeRate:
    """What a currency is worth."""
    name, rate = _RATES[code]
    return schema.ExchangeRate(code=code, name=name, per_euro=rate)
