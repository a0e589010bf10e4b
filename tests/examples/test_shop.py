"""The bundled shop: right without defects, wrong in exactly the listed ways with them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import yaml

from examples.shop import schema
from examples.shop.defects import chosen
from examples.shop.settings import from_environment
from examples.shop.store import CAPACITY, Collection
from testops_lib.model import NO_ANSWER, WFC_CODES, Check
from testops_lib.spec import load

PROJECT = Path(__file__).parents[2]
DEFECTS = {
    defect["id"]: defect for defect in yaml.safe_load((PROJECT / "examples/shop/defects.yaml").read_text("utf-8"))
}
TOKEN, STAFF = "customer-token", "staff-token"
METHODS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True)
class Api:
    """A running shop as the staff sees it."""

    client: httpx.Client
    nobody: httpx.Client
    url: str

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        if body is not None:
            more["json"] = body
        return self.client.request(method, self.url + path, **more)

    def anonymous(self, method: str, path: str, token: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.nobody.request(method, self.url + path, headers=headers)


def _serve(defects: str) -> Iterator[Api]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "SHOP_TOKEN": TOKEN, "SHOP_ADMIN_TOKEN": STAFF, "SHOP_DEFECTS": defects}
    arguments = ["examples.shop.app:app", "--host", "127.0.0.1", "--port", str(port), "--log-level", "critical"]
    server = subprocess.Popen([sys.executable, "-m", "uvicorn", *arguments], cwd=PROJECT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{url}/health")
                break
            except httpx.TransportError:
                assert server.poll() is None, "the shop ended"
                time.sleep(0.1)
        staff = httpx.Client(headers={"Authorization": f"Bearer {STAFF}"}, timeout=20)
        with staff, httpx.Client(timeout=20) as nobody:
            yield Api(staff, nobody, url)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


@pytest.fixture(scope="module")
def right() -> Iterator[Api]:
    yield from _serve("none")


@pytest.fixture(scope="module")
def wrong() -> Iterator[Api]:
    yield from _serve("all")


@pytest.fixture(scope="module")
def document(right: Api) -> dict[str, Any]:
    return right("GET", "/openapi.json").json()  # type: ignore[no-any-return]


# --------------------------------------------------------------------------- the document


def _schemas(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "schema":
                yield value
            else:
                yield from _schemas(value)
    elif isinstance(node, list):
        for value in node:
            yield from _schemas(value)


def test_document_loads_without_a_warning(right: Api, tmp_path: Path) -> None:
    path = tmp_path / "openapi.json"
    path.write_bytes(right("GET", "/openapi.json").content)
    spec = load(str(path))
    assert (spec.dialect, spec.warnings, spec.unusable) == ("3.1", (), {})
    assert len(spec.operations) >= 24


def test_every_schema_is_json_schema_2020_12(document: dict[str, Any]) -> None:
    schemas = [*document["components"]["schemas"].values(), *_schemas(document["paths"])]
    assert len(schemas) > 100
    for component in schemas:
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **component})


def test_limits_are_said_in_words_that_validators_know(document: dict[str, Any]) -> None:
    assert not re.search(r'"(ge|le|gt|lt)":', json.dumps(document))


def test_document_does_not_change_with_the_defects(right: Api, wrong: Api) -> None:
    assert right("GET", "/openapi.json").content == wrong("GET", "/openapi.json").content


def test_examples_of_bodies_fit_their_schemas(document: dict[str, Any]) -> None:
    seen = 0
    for name, component in document["components"]["schemas"].items():
        for example in component.get("examples", ()):
            assert _validator(document, {"$ref": f"#/components/schemas/{name}"}).is_valid(example), name
            seen += 1
    assert seen >= 12


def test_defects_are_listed_as_they_are_made(document: dict[str, Any]) -> None:
    assert tuple(DEFECTS) and set(DEFECTS) == set(chosen("all"))
    checks = {check.__struct_config__.tag for check in Check.__subclasses__()} | {NO_ANSWER}
    places = set()
    for defect in DEFECTS.values():
        method, _, path = defect["operation"].partition(" ")
        assert method.lower() in document["paths"][path], defect["id"]
        assert defect["check"] in checks
        assert defect["wfc_code"] == WFC_CODES.get(defect["check"])
        assert set(defect) == {"id", "kind", "title", "operation", "check", "wfc_code", "how"}
        places.add((defect["operation"], defect["check"]))
    assert len(places) == len(DEFECTS)


# --------------------------------------------------------------------------- the defects

Look = Callable[[Api], Any]


def _created(api: Api, path: str, body: Any) -> Any:
    answer = api("POST", path, body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def _warehouse_after_two_puts(api: Api) -> int:
    id = _created(api, "/warehouses", {"name": "N", "city": "B", "capacity": 1})["id"]
    for _ in range(2):
        assert api("PUT", f"/warehouses/{id}", {"name": "N", "city": "B", "capacity": 700}).status_code == 204
    return int(api("GET", f"/warehouses/{id}").json()["capacity"])


def _label_after_put(api: Api) -> str:
    new = {"email": "a.b@example.org", "label": "first", "topic": "news"}
    id = _created(api, "/subscriptions", new)["id"]
    changed = {"label": "second", "topic": "news", "frequency": "daily"}
    answer = api("PUT", f"/subscriptions/{id}", changed)
    assert (answer.status_code, answer.json()["label"]) == (200, "second")
    return str(api("GET", f"/subscriptions/{id}").json()["label"])


def _new_supplier(api: Api) -> int:
    id = _created(api, "/suppliers", {"name": "S", "country": "FR", "email": "s@example.org"})["id"]
    return api("GET", f"/suppliers/{id}").status_code


def _deleted_wishlist(api: Api) -> tuple[int, int]:
    id = _created(api, "/wishlists", {"title": "W"})["id"]
    assert api("DELETE", f"/wishlists/{id}").status_code == 204
    return api("GET", f"/wishlists/{id}").status_code, api("DELETE", f"/wishlists/{id}").status_code


def _is_slow(api: Api) -> bool:
    began = time.monotonic()
    assert api("GET", "/recommendations").status_code == 200
    return time.monotonic() - began > 2.5


def _breaks_off(api: Api) -> bool:
    try:
        return api("GET", "/shipping-quotes?country=DE&weight_kg=1").status_code != 200
    except httpx.RemoteProtocolError:
        return True


def _other_methods(api: Api) -> set[int]:
    return {api(method, "/currencies/USD").status_code for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE")}


PRODUCT = {"name": "P", "price": 0, "category_id": 1}
PAYMENT = {"order_id": schema.SEEDED_ORDER, "amount": "ten", "source": {"kind": "card", "last4": "1234"}}
LONG = {"name": "n" * 61, "city": "B", "capacity": 1}
MALFORMED = {"content": b"{", "headers": {"Content-Type": "application/json"}}
PLAIN = {"content": b"a cart, please", "headers": {"Content-Type": "text/plain"}}

LOOKS: dict[str, tuple[Look, Any, Any]] = {
    "boundary-crash": (lambda api: api("GET", "/reports/sales?days=365").status_code, 200, 500),
    "type-crash": (lambda api: api("POST", "/payments", PAYMENT).status_code, 422, 500),
    "malformed-crash": (
        lambda api: api("POST", "/subscriptions", **MALFORMED).status_code,
        400,
        500,
    ),
    "create-answers-200": (lambda api: api("POST", "/categories", {"name": "C", "slug": "cc"}).status_code, 201, 200),
    "undocumented-refusal": (lambda api: api("GET", "/reviews?min_rating=6").status_code, 422, 416),
    "wrong-type": (lambda api: type(api("GET", "/reports/inventory").json()["total_units"]), int, str),
    "missing-field": (lambda api: "created_at" in api("GET", "/payments/1").json(), True, False),
    "unknown-enum-value": (
        lambda api: api("POST", f"/orders/{schema.SEEDED_ORDER}/cancel").json()["status"],
        "cancelled",
        "annulled",
    ),
    "unexpected-null": (
        lambda api: api("GET", f"/customers/{schema.SEEDED_CUSTOMER}").json()["loyalty_points"],
        120,
        None,
    ),
    "missing-header": (lambda api: "X-Total-Count" in api("GET", "/categories").headers, True, False),
    "wrong-content-type": (
        lambda api: api("GET", "/reports/inventory.csv").headers["content-type"].partition(";")[0],
        "text/csv",
        "text/html",
    ),
    "price-below-minimum": (lambda api: api("POST", "/products", PRODUCT).status_code, 422, 201),
    "name-too-long": (lambda api: api("POST", "/warehouses", LONG).status_code, 422, 201),
    "missing-field-accepted": (lambda api: api("POST", "/products/1/reviews", {"author": "A"}).status_code, 422, 201),
    "unknown-sort-accepted": (lambda api: api("GET", "/products?sort=colour").status_code, 422, 200),
    "media-type-ignored": (lambda api: api("POST", "/carts", **PLAIN).status_code, 415, 201),
    "maximum-refused": (lambda api: api("POST", "/orders", {"product_id": 1, "quantity": 100}).status_code, 201, 422),
    "no-credentials-needed": (
        lambda api: (api.anonymous("GET", "/stock").status_code, api.anonymous("GET", "/stock", "x").status_code),
        (401, 401),
        (200, 401),
    ),
    "any-token-accepted": (
        lambda api: (api.anonymous("GET", "/payments").status_code, api.anonymous("GET", "/payments", "x").status_code),
        (401, 401),
        (401, 200),
    ),
    "any-method-accepted": (_other_methods, {405}, {200}),
    "one-too-many": (lambda api: len(api("GET", "/orders?limit=1").json()), 1, 2),
    "created-not-readable": (_new_supplier, 200, 404),
    "use-after-delete": (_deleted_wishlist, (404, 404), (200, 404)),
    "put-adds": (_warehouse_after_two_puts, 700, 1400),
    "change-not-stored": (_label_after_put, "second", "first"),
    "slow": (_is_slow, False, True),
    "cut-short": (_breaks_off, False, True),
}


@pytest.mark.parametrize("id", DEFECTS)
def test_defect_shows_when_it_is_on_and_not_when_it_is_off(id: str, right: Api, wrong: Api) -> None:
    look, expected, seeded = LOOKS[id]
    assert look(right) == expected
    assert look(wrong) == seeded


def test_one_defect_can_be_chosen() -> None:
    assert chosen("slow, put-adds") == ("slow", "put-adds")
    assert chosen("none") == ()
    with pytest.raises(SystemExit, match="no defect sloww"):
        chosen("sloww")


# --------------------------------------------------------------------------- strictly as documented


def _validator(document: dict[str, Any], described: Any) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        {**described, "components": document["components"]}, validate_formats=True
    )


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def _filled(path: str, operation: dict[str, Any]) -> str:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", str(parameter["schema"]["examples"][0]))
    required = [p for p in operation.get("parameters", ()) if p["in"] == "query" and p["required"]]
    return path + ("?" if required else "") + "&".join(f"{p['name']}={p['schema']['examples'][0]}" for p in required)


class Contract:
    """Judges answers by the document alone."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._known: dict[tuple[str, str, int], jsonschema_rs.Draft202012Validator] = {}

    def judge(self, method: str, path: str, operation: dict[str, Any], answer: httpx.Response) -> None:
        about = f"{method} {path} <- {answer.request.url} {answer.request.content[:200]!r}: {answer.text[:300]}"
        described = operation["responses"].get(str(answer.status_code))
        assert described is not None, f"undocumented {answer.status_code}: {about}"
        for name, header in described["headers"].items():
            if "$ref" in header:
                header = self.document["components"]["headers"]["X-Request-Id"]
            assert not header["required"] or name in answer.headers, f"no {name}: {about}"
        if not described.get("content"):
            assert not answer.content, about
            return
        media = answer.headers["content-type"].partition(";")[0]
        assert media in described["content"], about
        if media.endswith("json"):
            key = method, path, answer.status_code
            if key not in self._known:
                self._known[key] = _validator(self.document, described["content"][media]["schema"])
            self._known[key].validate(answer.json())


@pytest.fixture(scope="module")
def contract(document: dict[str, Any]) -> Contract:
    return Contract(document)


WILD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2.0,
    0.5,
    1e308,
    -1e-308,
    10**400,
    2**63,
    "",
    "x",
    "\0",
    "a\nb",
    "é😀",
    "x" * 5000,
    "1",
    [],
    [1],
    ["x"],
    [None],
    {},
    {"x": 1},
    "2030-02-30",
    "0000-02-29",
    "2030-12-31",
    "a@b",
    "AB",
    "{unique}",
]
NOT_JSON = [b"", b"{", b"nul", b"{'a': 1}", b'{"a": NaN}', b"[" * 100_000, b"\xff\xfe", b'{"a": 1,}', b"1" * 5000]


def _body_of(operation: dict[str, Any]) -> Any:
    content = operation.get("requestBody", {}).get("content", {})
    return content["application/json"]["schema"] if content else None


def test_bodies_are_taken_exactly_when_their_schema_takes_them(
    right: Api, document: dict[str, Any], contract: Contract
) -> None:
    tried = taken = 0
    for method, path, operation in _operations(document):
        if (described := _body_of(operation)) is None:
            continue
        where = _filled(path, operation)
        validator = _validator(document, described)
        named = document["components"]["schemas"][described["$ref"].rpartition("/")[2]]
        good = named["examples"][0]
        for body in _mutations(named, good):
            answer = right(method, where, content=json.dumps(body), headers={"Content-Type": "application/json"})
            contract.judge(method, path, operation, answer)
            tried += 1
            taken += answer.is_success
            valid = validator.is_valid(body)
            assert answer.status_code == 422 or valid, f"{method} {path} took {str(body)[:200]}"
            # A reference to nothing is a 404, and a wrong password is a 401.
            assert answer.status_code in (200, 201, 204, 401, 404) or not valid, f"{method} {path}: {str(body)[:200]}"
    assert tried > 1000
    assert taken > 200


def _mutations(named: dict[str, Any], good: dict[str, Any]) -> Iterator[Any]:
    yield from (good, {}, {**good, "unknown": 1}, None, [], "x", 1)
    for name in named["properties"]:
        yield {key: value for key, value in good.items() if key != name}
        for value in WILD:
            yield {**good, name: value}
        if isinstance(inner := good.get(name), dict):
            for key in inner:
                yield {**good, name: {other: value for other, value in inner.items() if other != key}}
                for value in WILD[::2]:
                    yield {**good, name: {**inner, key: value}}


def test_what_is_no_json_is_refused_as_documented(right: Api, document: dict[str, Any], contract: Contract) -> None:
    for method, path, operation in _operations(document):
        if _body_of(operation) is None:
            continue
        for raw in NOT_JSON:
            answer = right(method, _filled(path, operation), content=raw, headers={"Content-Type": "application/json"})
            contract.judge(method, path, operation, answer)
            assert answer.status_code == 400, (method, path, raw[:20])
        for media in ("text/plain", "application/xml", "multipart/form-data; boundary=x", "application/jsonx", ""):
            headers = {"Content-Type": media} if media else {}
            answer = right(method, _filled(path, operation), content=b"{}", headers=headers)
            contract.judge(method, path, operation, answer)
            assert answer.status_code == 415, (method, path, media)
        lone = right(
            method,
            _filled(path, operation),
            content=b'{"name": "\\ud800", "\\ud800": 1}',
            headers={"Content-Type": "application/json"},
        )
        contract.judge(method, path, operation, lone)
        assert lone.status_code == 422


WILD_TEXT = [
    "",
    "abc",
    "0",
    "1",
    "-1",
    "1.5",
    "1.0",
    " 1",
    "+1",
    "1_0",
    "٣",
    "NaN",
    "Infinity",
    "1e999",
    "9" * 30,
    "9" * 4000,
    "true",
    "True",
    "null",
    "None",
    "[]",
    "{}",
    "\0",
    "é😀",
    "x" * 60,
    "EUR",
    "DE",
    "de",
    "2024-01-01",
    "a" * 16,
    "..",
    "2024-13-01T00:00:00Z",
    "2024-01-01T00:00:00+25:00",
    "0b7d3f5e6a574c3c9f0e2f1f5f6b8a01",
]


def _reads_as_valid(declared: dict[str, Any], text: str) -> bool:
    """Whether a parameter's text is a value of its schema."""
    if declared["type"] == "array":
        return _reads_as_valid(declared["items"], text)
    value: Any = text
    if declared["type"] != "string":
        try:
            value = json.loads(text)
        except ValueError:
            return False
        if text != text.strip() or value != value or value in (float("inf"), float("-inf")):
            return False
    return jsonschema_rs.Draft202012Validator(declared, validate_formats=True).is_valid(value)


def test_parameters_are_taken_exactly_when_their_schema_takes_them(
    right: Api, document: dict[str, Any], contract: Contract
) -> None:
    tried = 0
    for method, path, operation in _operations(document):
        named = document["components"]["schemas"].get(
            str((_body_of(operation) or {}).get("$ref")).rpartition("/")[2], {}
        )
        body = named.get("examples", [None])[0]
        for parameter in operation.get("parameters", ()):
            name, place = parameter["name"], parameter["in"]
            if method == "DELETE" or place == "header":
                continue
            for text in WILD_TEXT:
                if place == "path":
                    if text in ("", ".."):
                        continue
                    where = _filled(path.replace("{" + name + "}", str(httpx.QueryParams({"": text}))[1:]), operation)
                    answer = right(method, where.replace("+", "%20"), body)
                else:
                    others = [p for p in operation["parameters"] if p["in"] == "query" and p["required"]]
                    query = {p["name"]: str(p["schema"]["examples"][0]) for p in others} | {name: text}
                    answer = right(method, _filled(path, operation).partition("?")[0], body, params=query)
                contract.judge(method, path, operation, answer)
                valid = _reads_as_valid(parameter["schema"], text)
                assert (answer.status_code == 422) == (not valid), (
                    f"{method} {path} {name}={text[:40]!r}: {answer.text}"
                )
                tried += 1
    assert tried > 500


def test_parameter_given_twice_is_refused(right: Api) -> None:
    assert right("GET", "/products?limit=x&limit=1").status_code == 422
    assert right("GET", "/products?tag=a&tag=seed").json() == []
    assert all("seed" in product["tags"] for product in right("GET", "/products?tag=seed").json())


def test_header_parameter_is_checked_and_kept(right: Api) -> None:
    body = {"product_id": 1, "quantity": 1}
    assert right("POST", "/orders", body, headers={"X-Channel": "fax"}).status_code == 422
    made = right("POST", "/orders", body, headers={"X-Channel": "phone"})
    assert (made.status_code, made.json()["channel"]) == (201, "phone")


def test_protected_operations_need_valid_credentials(right: Api, document: dict[str, Any], contract: Contract) -> None:
    refused = forbidden = 0
    for method, path, operation in _operations(document):
        if not operation.get("security"):
            continue
        named = document["components"]["schemas"].get(
            str((_body_of(operation) or {}).get("$ref")).rpartition("/")[2], {}
        )
        body = named.get("examples", [None])[0]
        for authorization in (None, "Bearer nobody", "Bearer", "Basic c3RhZmY6eA==", f"Bearer {STAFF}x"):
            headers = {"Authorization": authorization} if authorization else {}
            answer = right.nobody.request(method, right.url + _filled(path, operation), json=body, headers=headers)
            contract.judge(method, path, operation, answer)
            assert answer.status_code == 401
            refused += 1
        if operation["security"] == [{"staffToken": []}]:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            answer = right.nobody.request(method, right.url + _filled(path, operation), json=body, headers=headers)
            contract.judge(method, path, operation, answer)
            assert answer.status_code == 403
            forbidden += 1
    assert refused > 100
    assert forbidden > 10


def test_methods_that_are_not_documented_are_refused(right: Api, document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        where = _filled(path, next(item[method] for method in METHODS if method in item))
        offered = {method.upper() for method in METHODS if method in item}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"} - offered:
            answer = right(method, where)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["Allow"].split(", ")) == offered


def test_unknown_paths_are_not_redirected(right: Api) -> None:
    for path in ("/products/", "/nowhere", "/products/1/", "/products//"):
        assert right("GET", path).status_code == 404, path


# --------------------------------------------------------------------------- life of a resource


@pytest.mark.parametrize(
    "path",
    [
        "/categories/1",
        "/products/1",
        "/reviews/1",
        "/wishlists/1",
        "/subscriptions/1",
        "/warehouses/1",
        "/coupons/WELCOME10",
        f"/customers/{schema.SEEDED_CUSTOMER}",
        f"/carts/{schema.SEEDED_CART}",
    ],
)
def test_seeded_resources_are_never_deleted(path: str, right: Api) -> None:
    assert right("DELETE", path).status_code == 409
    assert right("GET", path).status_code == 200


def test_created_resources_are_read_listed_changed_and_deleted(right: Api, document: dict[str, Any]) -> None:
    lives = 0
    for method, path, operation in _operations(document):
        links = operation["responses"].get("201", {}).get("links", {})
        if method != "POST" or not links:
            continue
        name = _body_of(operation)["$ref"].rpartition("/")[2]
        made = right(method, _filled(path, operation), document["components"]["schemas"][name]["examples"][0])
        assert made.status_code == 201, made.text
        where = made.headers["Location"]
        assert right("GET", where).json() == made.json()
        if any(name.startswith("delete_") for name in links):
            assert right("DELETE", where).status_code == 204
            assert right("GET", where).status_code == 404
            assert right("DELETE", where).status_code == 404
            lives += 1
    assert lives >= 8


def test_page_holds_at_most_limit_items_and_offset_skips(right: Api) -> None:
    first, second = right("GET", "/products?limit=1"), right("GET", "/products?limit=1&offset=1")
    assert [order["id"] for order in first.json() + second.json()] == [1, 2]
    assert int(first.headers["X-Total-Count"]) >= 3
    assert right("GET", "/products?offset=100000").json() == []


def test_logging_out_ends_the_session_and_leaves_service_tokens(right: Api) -> None:
    for username, password, path, method in (
        ("guest", "guest-guest", "/session/logout", "POST"),
        ("customer", TOKEN, "/account", "DELETE"),
    ):
        token = right("POST", "/sessions", {"username": username, "password": password}).json()["token"]
        assert right.anonymous("GET", "/session", token).json() == {
            "username": username,
            "role": "customer",
            "service": False,
        }
        assert right.anonymous(method, path, token).status_code == 204
        assert right.anonymous("GET", "/session", token).status_code == 401
        assert right.anonymous(method, path, TOKEN).status_code == 204
        assert right.anonymous("GET", "/session", TOKEN).status_code == 200
    assert right("POST", "/sessions", {"username": "staff", "password": "wrong"}).status_code == 401


def test_collections_keep_what_is_seeded_and_the_newest() -> None:
    full: Collection[int, schema.ExchangeRate] = Collection([(1, schema.ExchangeRate(code="EUR", name="", per_euro=1))])
    item = schema.ExchangeRate(code="USD", name="", per_euro=1)
    for _ in range(CAPACITY + 5):
        full.number(lambda _: item)
    assert len(full) == CAPACITY
    assert full.get(1) is not None
    assert full.get(2) is None
    assert full.get(CAPACITY + 6) is item


# --------------------------------------------------------------------------- settings


def test_missing_tokens_are_named() -> None:
    with pytest.raises(SystemExit, match="SHOP_TOKEN and SHOP_ADMIN_TOKEN not set"):
        from_environment({})
    with pytest.raises(SystemExit, match="SHOP_ADMIN_TOKEN not set"):
        from_environment({"SHOP_TOKEN": "a"})
    with pytest.raises(SystemExit, match="the same"):
        from_environment({"SHOP_TOKEN": "a", "SHOP_ADMIN_TOKEN": "a"})
    assert from_environment({"SHOP_TOKEN": "a", "SHOP_ADMIN_TOKEN": "b"}).defects == "all"
