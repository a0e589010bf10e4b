from __future__ import annotations

from pathlib import Path

import pytest

from testops_lib.errors import SpecError
from testops_lib.spec import Spec, base_url, load, load_bytes, select

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def library() -> Spec:
    return load(FIXTURES / "library.yaml")


@pytest.mark.parametrize(
    ("patterns", "tags", "safe_only", "expected"),
    [
        ([], [], False, ["GET /books", "POST /books", "GET /books/{id}", "DELETE /books/{id}"]),
        (["GET /books*"], [], False, ["GET /books", "GET /books/{id}"]),
        (["get /books"], [], False, ["GET /books"]),
        (["*Book"], [], False, ["POST /books", "GET /books/{id}", "DELETE /books/{id}"]),
        (["/books/{id}", "listBooks"], [], False, ["GET /books", "GET /books/{id}", "DELETE /books/{id}"]),
        (["!DELETE *"], [], False, ["GET /books", "POST /books", "GET /books/{id}"]),
        (["* /books", "!POST *"], [], False, ["GET /books"]),
        ([], ["books", "other"], False, ["GET /books"]),
        ([], [], True, ["GET /books", "GET /books/{id}"]),
        (["nothing"], [], False, []),
    ],
)
def test_operations_are_chosen_by_pattern_tag_and_safety(
    library: Spec, patterns: list[str], tags: list[str], safe_only: bool, expected: list[str]
) -> None:
    assert [
        operation.key for operation in select(library, patterns=patterns, tags=tags, safe_only=safe_only)
    ] == expected


@pytest.mark.parametrize(
    ("server", "source", "override", "expected"),
    [
        ("https://a.example/v1/", "x.yaml", "", "https://a.example/v1"),
        ("https://a.example/v1", "x.yaml", "http://localhost:8080/", "http://localhost:8080"),
        ("/v1", "http://h:81/docs/openapi.json", "", "http://h:81/v1"),
        ("v1", "http://h:81/docs/openapi.json", "", "http://h:81/docs/v1"),
        ("", "http://h:81/docs/openapi.json", "", "http://h:81"),
        ("//a.example/v1", "http://h/x", "", "http://a.example/v1"),
        ("/v1", "x.yaml", "", None),
        ("", "x.yaml", "", None),
        ("", "x.yaml", "localhost:8080", None),
        ("", "x.yaml", "http://host:99999", None),
        ("", "x.yaml", "http://host/a?b=c", None),
        ("", "x.yaml", "file:///etc", None),
        ("", "x.yaml", "http://ann:hunter2@host/a", None),
        ("http://ann:hunter2@host/a", "x.yaml", "", None),
        ("ftp://ann:hunter2@host/a", "x.yaml", "", None),
    ],
)
def test_base_url_is_absolute_or_an_error(server: str, source: str, override: str, expected: str | None) -> None:
    servers = f"servers: [{{url: {server!r}}}]\n" if server else ""
    spec = load_bytes(f"openapi: 3.0.0\n{servers}paths: {{}}\n".encode(), source)
    if expected is None:
        with pytest.raises(SpecError) as error:
            base_url(spec, source, override)
        assert error.value.next_step and "hunter2" not in str(error.value)
    else:
        assert base_url(spec, source, override) == expected
