"""Categories, products, reviews."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from examples.shop import schema, wiring
from examples.shop.kinds import INTEGER_TEXT
from examples.shop.problem import documented, not_found
from examples.shop.store import now
from examples.shop.wiring import SIGNED_IN, STAFF, Limit, Offset, Store

router = APIRouter(route_class=wiring.ShopRoute)


@router.get("/categories", tags=["catalogue"], responses=wiring.listing("Categories.") | documented(422))
async def list_categories(
    shop: Store, response: Response, limit: Limit = 20, offset: Offset = 0
) -> list[schema.Category]:
    """The categories, oldest first."""
    items, total = shop.categories.page(limit, offset)
    response.headers["X-Total-Count"] = str(total)
    return items


@router.post(
    "/categories",
    status_code=201,
    tags=["catalogue"],
    dependencies=STAFF,
    responses=wiring.creation("The category.", "category_id", "id", "get_category", "delete_category")
    | documented(400, 401, 403, 415, 422),
)
async def create_category(shop: Store, response: Response, body: schema.CategoryInput) -> schema.Category:
    """A new category. Names need not be unique."""
    made = shop.categories.number(lambda id: schema.Category(id=id, **body.model_dump()))
    response.headers["Location"] = f"/categories/{made.id}"
    return made


@router.get("/categories/{category_id}", tags=["catalogue"], responses=documented(404, 422))
async def get_category(shop: Store, category_id: wiring.CategoryId) -> schema.Category:
    """One category."""
    if (found := shop.categories.get(category_id)) is None:
        raise not_found("category")
    return found


@router.delete(
    "/categories/{category_id}",
    status_code=204,
    tags=["catalogue"],
    dependencies=STAFF,
    responses=documented(401, 403, 404, 409, 422),
)
async def delete_category(shop: Store, category_id: wiring.CategoryId) -> None:
    """Removes a category; its products keep their `category_id`. Categories 1 and 2 are fixed: 409."""
    wiring.fixed(shop.categories.is_seeded(category_id))
    if shop.categories.remove(category_id) is None:
        raise not_found("category")


SearchText = Annotated[str, Field(min_length=1, max_length=50)] | SkipJsonSchema[None]
SearchTag = Annotated[str, Field(min_length=1, max_length=20)]


@router.get("/products", tags=["catalogue"], responses=wiring.listing("Products.") | documented(422))
async def list_products(
    shop: Store,
    response: Response,
    limit: Limit = 20,
    offset: Offset = 0,
    category_id: Annotated[wiring.OptionalId, Query(description="Only of this category.", examples=[1])] = None,
    min_price: Annotated[wiring.PriceLimit, Query(description="Only at this price or above.")] = None,
    max_price: Annotated[wiring.PriceLimit, Query(description="Only at this price or below.")] = None,
    in_stock: Annotated[wiring.Flag, Query(description="Only what is, or is not, in stock.")] = None,
    tag: Annotated[list[SearchTag], Query(max_length=5, description="Only with all of these tags.")] = [],  # noqa: B006
    q: Annotated[SearchText, Query(description="Only with this text in the name.", examples=["spade"])] = None,
    sort: Annotated[Literal["id", "price", "name"], Query(description="What to sort by, ascending.")] = "id",
) -> list[schema.Product]:
    """The products that fit every filter given."""

    def wanted(item: schema.Product) -> bool:
        return (
            (category_id is None or item.category_id == category_id)
            and (min_price is None or item.price >= min_price)
            and (max_price is None or item.price <= max_price)
            and (in_stock is None or item.in_stock is in_stock)
            and all(tag_wanted in item.tags for tag_wanted in tag)
            and (q is None or q.lower() in item.name.lower())
        )

    items, total = shop.products.page(100_000, 0, wanted)
    if sort != "id":
        items.sort(key=lambda item: getattr(item, sort))
    response.headers["X-Total-Count"] = str(total)
    return items[offset : offset + limit]


@router.post(
    "/products",
    status_code=201,
    tags=["catalogue"],
    dependencies=STAFF,
    responses=wiring.creation(
        "The product.", "product_id", "id", "get_product", "replace_product", "change_product", "delete_product"
    )
    | documented(400, 401, 403, 404, 415, 422),
)
async def create_product(shop: Store, response: Response, body: schema.ProductInput) -> schema.Product:
    """A new product. The category must exist, or the answer is 404."""
    if shop.categories.get(body.category_id) is None:
        raise not_found("category")
    made = shop.products.number(lambda id: schema.Product(id=id, in_stock=True, created_at=now(), **dict(body)))
    response.headers["Location"] = f"/products/{made.id}"
    return made


@router.get("/products/{product_id}", tags=["catalogue"], responses=documented(404, 422))
async def get_product(shop: Store, product_id: wiring.ProductId) -> schema.Product:
    """One product."""
    if (found := shop.products.get(product_id)) is None:
        raise not_found("product")
    return found


@router.put(
    "/products/{product_id}",
    tags=["catalogue"],
    dependencies=STAFF,
    responses=documented(400, 401, 403, 404, 415, 422),
)
async def replace_product(shop: Store, product_id: wiring.ProductId, body: schema.ProductInput) -> schema.Product:
    """The product with everything replaced that was sent; the same request again changes nothing more."""
    old = shop.products.get(product_id)
    if old is None or shop.categories.get(body.category_id) is None:
        raise not_found("product" if old is None else "category")
    made = schema.Product(id=product_id, in_stock=True, created_at=old.created_at, **dict(body))
    if not shop.products.replace(product_id, made):
        raise not_found("product")
    return made


@router.patch(
    "/products/{product_id}",
    tags=["catalogue"],
    dependencies=STAFF,
    responses=documented(400, 401, 403, 404, 415, 422),
)
async def change_product(shop: Store, product_id: wiring.ProductId, body: schema.ProductChange) -> schema.Product:
    """The product with what was sent changed; what was not sent stays."""
    if (old := shop.products.get(product_id)) is None:
        raise not_found("product")
    made = old.model_copy(update={name: getattr(body, name) for name in body.model_fields_set})
    if not shop.products.replace(product_id, made):
        raise not_found("product")
    return made


@router.delete(
    "/products/{product_id}",
    status_code=204,
    tags=["catalogue"],
    dependencies=STAFF,
    responses=documented(401, 403, 404, 409, 422),
)
async def delete_product(shop: Store, product_id: wiring.ProductId) -> None:
    """Removes a product. Products 1, 2 and 3 are fixed: 409."""
    wiring.fixed(shop.products.is_seeded(product_id))
    if shop.products.remove(product_id) is None:
        raise not_found("product")


@router.post(
    "/products/{product_id}/reviews",
    status_code=201,
    tags=["reviews"],
    dependencies=SIGNED_IN,
    responses=wiring.creation("The review.", "review_id", "id", "get_review", "delete_review")
    | documented(400, 401, 404, 415, 422),
)
async def create_review(
    shop: Store, response: Response, product_id: wiring.ProductId, body: schema.ReviewInput
) -> schema.Review:
    """A new review of a product."""
    if shop.products.get(product_id) is None:
        raise not_found("product")
    made = shop.reviews.number(
        lambda id: schema.Review(id=id, product_id=product_id, created_at=now(), **body.model_dump())
    )
    response.headers["Location"] = f"/reviews/{made.id}"
    return made


@router.get(
    "/products/{product_id}/reviews", tags=["reviews"], responses=wiring.listing("Reviews.") | documented(404, 422)
)
async def list_reviews_of_product(
    shop: Store, response: Response, product_id: wiring.ProductId, limit: Limit = 20, offset: Offset = 0
) -> list[schema.Review]:
    """The reviews of one product, oldest first."""
    if shop.products.get(product_id) is None:
        raise not_found("product")
    items, total = shop.reviews.page(limit, offset, lambda item: item.product_id == product_id)
    response.headers["X-Total-Count"] = str(total)
    return items


@router.get("/reviews", tags=["reviews"], responses=wiring.listing("Reviews.") | documented(422))
async def list_reviews(
    shop: Store,
    response: Response,
    limit: Limit = 20,
    offset: Offset = 0,
    min_rating: Annotated[
        int, Field(ge=1, le=5), INTEGER_TEXT, Query(description="Only with this many stars or more.")
    ] = 1,
) -> list[schema.Review]:
    """All reviews, oldest first."""
    items, total = shop.reviews.page(limit, offset, lambda item: item.rating >= min_rating)
    response.headers["X-Total-Count"] = str(total)
    return items


@router.get("/reviews/{review_id}", tags=["reviews"], responses=documented(404, 422))
async def get_review(shop: Store, review_id: wiring.ReviewId) -> schema.Review:
    """One review."""
    if (found := shop.reviews.get(review_id)) is None:
        raise not_found("review")
    return found


@router.delete(
    "/reviews/{review_id}",
    status_code=204,
    tags=["reviews"],
    dependencies=SIGNED_IN,
    responses=documented(401, 404, 409, 422),
)
async def delete_review(shop: Store, review_id: wiring.ReviewId) -> None:
    """Removes a review. Reviews 1 and 2 are fixed: 409."""
    wiring.fixed(shop.reviews.is_seeded(review_id))
    if shop.reviews.remove(review_id) is None:
        raise not_found("review")
