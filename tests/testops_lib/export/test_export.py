from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from testops_lib.export import curl, curl_case, pytest_source
from testops_lib.model import (
    AnyBody,
    BytesBody,
    Capture,
    Case,
    ContentTypeConformance,
    EnsureResourceAvailability,
    FormBody,
    HeaderIs,
    IgnoredAuth,
    JsonBody,
    JsonPathIs,
    MaxResponseTime,
    MultipartBody,
    NegativeDataRejection,
    NotAServerError,
    Part,
    PositiveDataAcceptance,
    Provenance,
    Request,
    RequestEvidence,
    ResponseHeadersConformance,
    ResponseSchemaConformance,
    StatusCodeConformance,
    StatusIs,
    Step,
    TextBody,
    UnsupportedMethod,
    UseAfterFree,
    make_case,
)

HOSTILE = '\'; touch /tmp/x; $(id) `id` "$HOME" \\ \n# !! * ? {a,b} \x1b[31m\u202e é 漢字 \'\'\' """ {{}} %s'


def arguments(line: str) -> list[str]:
    """What bash makes of a line: the words after `curl`, which is a function that prints them."""
    script = 'curl() { printf "%s\\0" "$@"; }\n' + line
    bash = shutil.which("bash") or "bash"
    done = subprocess.run([bash, "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": ""})
    assert done.stderr == b""
    return [_text(word) for word in done.stdout.split(b"\0")[:-1]]


def _text(word: bytes) -> str:
    try:
        return word.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return word.decode("utf-8", "surrogateescape")


def evidence(**more: Any) -> RequestEvidence:
    return RequestEvidence(**{"method": "POST", "url": "http://h/p", **more})


def test_a_plain_request_is_a_plain_line() -> None:
    assert curl(evidence(method="GET", headers=(("Accept", "a/b"),))) == "curl -i --url http://h/p -H 'Accept: a/b'"
    assert curl(evidence(method="HEAD")) == "curl -i --head --url http://h/p"
    assert curl(evidence(method="DELETE")) == "curl -i -X DELETE --url http://h/p"


def test_redacted_values_are_variables_that_the_line_sets_first() -> None:
    headers = (("Authorization", "[redacted]"), ("X-Api-Key", "[redacted]"))
    line = curl(
        evidence(
            method="POST", url="http://h/p?a=1&api_key=[redacted]&b=2", headers=headers, body='{"pin": "[redacted]"}'
        )
    )
    assert line.startswith("API_KEY='…'; AUTHORIZATION='…'; X_API_KEY='…'; SECRET='…'; curl ")
    given = line.replace("'…'", "'it s'")
    words = arguments(given)
    assert "http://h/p?a=1&api_key=it s&b=2" in words and '{"pin": "it s"}' in words
    assert "Authorization: it s" in words and "X-Api-Key: it s" in words


def test_what_the_runner_says_of_itself_is_left_out_of_a_line() -> None:
    headers = (("Accept", "*/*"), ("User-Agent", "ai-testops/0.1.0"), ("X-A", "1"))
    assert curl(evidence(headers=headers)).count("-H") == 1
    assert curl(evidence(headers=(("User-Agent", "odd"), ("Accept", "text/csv")))).count("-H") == 2


def test_hostile_values_are_one_argument_each() -> None:
    line = curl(evidence(method=HOSTILE, url=HOSTILE, headers=(("X-A", HOSTILE),), body=HOSTILE))
    assert "\n" not in line and "\x1b" not in line and "\u202e" not in line
    assert arguments(line) == [
        "-i",
        "-X",
        HOSTILE,
        "--globoff",
        "--url",
        HOSTILE,
        "-H",
        f"X-A: {HOSTILE}",
        "-H",
        "Content-Type:",
        "--data-raw",
        HOSTILE,
    ]


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(texts, texts, texts)
@example("@/etc/passwd", "-K/etc/passwd", "@/etc/passwd")
@example("'", "\\'", "$'\\x41'")
def test_any_value_survives_the_shell(body: str, url: str, value: str) -> None:
    words = arguments(curl(evidence(url=url, headers=(("X-A", value), ("Content-Type", "a/b")), body=body)))
    assert words[words.index("--url") + 1] == url
    assert words[words.index("--data-raw") + 1] == body
    header = words[words.index("-H") + 1]
    assert header == (f"X-A: {value}" if value.strip() else "X-A;")


def test_no_header_can_make_curl_read_a_file() -> None:
    line = curl(evidence(headers=(("@/etc/passwd", ""), ("", "x"), ("A\r\nB", "x"), ("Fine", "@x"))))
    assert arguments(line)[5:] == ["-H", "Fine: @x"]


def test_nul_is_left_out_and_lone_surrogates_do_not_break() -> None:
    assert arguments(curl(evidence(body="a\0b")))[-1] == "ab"
    assert arguments(curl(evidence(body="a\ud800b")))[-1] == "a\ud800b"


def test_brackets_and_dots_in_urls_are_sent_as_given() -> None:
    line = curl(evidence(method="GET", url="http://h/a/../b?x[]={1}"))
    assert "--globoff" in line and "--path-as-is" in line


# ------------------------------------------------------------------------ cases


def case(*steps: Step, cleanup: tuple[Step, ...] = (), name: str = "create and read") -> Case:
    origin = Provenance(source="rules")
    return make_case(name=name, intent="stateful", operation="POST /pets", steps=steps, cleanup=cleanup, origin=origin)


def step(method: str = "GET", path: str = "/pets", body: AnyBody | None = None, **more: Any) -> Step:
    request = {key: more.pop(key) for key in ("query", "headers", "cookies") if key in more}
    return Step(operation=f"{method} {path}", request=Request(method=method, path=path, body=body, **request), **more)


STATEFUL = case(
    step(
        "POST",
        "/pets",
        JsonBody(value={"name": "Rex {unique}", "age": 3}),
        checks=(StatusIs(any_of=(201,)),),
        captures=(Capture(name="id", path="$.id"), Capture(name="tag", source="header", path="ETag")),
    ),
    step(
        "GET",
        "/pets/{id}",
        query=(("full", "true"), ("full", "{id}")),
        headers=(("If-Match", "{tag}"),),
        identity="none",
        checks=(
            NotAServerError(),
            JsonPathIs(path="$.id", op="equals", value="{id}"),
            HeaderIs(name="ETag", equals="{tag}"),
        ),
    ),
    cleanup=(step("DELETE", "/pets/{id}"),),
)


def test_a_case_is_a_script_of_curl_lines() -> None:
    assert curl_case(STATEFUL, "http://h/api/").splitlines() == [
        "# create and read",
        "# 1. POST /pets; keeps {id} from $.id; keeps {tag} from ETag",
        "curl -i -X POST --url http://h/api/pets -H 'Content-Type: application/json' "
        '--data-raw \'{"name":"Rex {unique}","age":3}\'',
        "# 2. GET /pets/{id}; as none",
        "curl -i --globoff --url 'http://h/api/pets/{id}?full=true&full={id}' -H 'If-Match: {tag}'",
        "# 3. DELETE /pets/{id}; cleanup",
        "curl -i -X DELETE --globoff --url 'http://h/api/pets/{id}'",
    ]


BODIES: list[AnyBody] = [
    JsonBody(value={"a": [1, None, True, HOSTILE]}),
    TextBody(text=HOSTILE, media_type=""),
    BytesBody(data=b"\xff\0'\""),
    FormBody(fields=((HOSTILE, HOSTILE), ("b", ""))),
    MultipartBody(parts=(Part(name=HOSTILE, data=b"\xff'"),)),
]

CHECKS = (
    NotAServerError(),
    StatusCodeConformance(),
    ContentTypeConformance(),
    ResponseHeadersConformance(),
    ResponseSchemaConformance(),
    NegativeDataRejection(location=HOSTILE, rule=HOSTILE, quote=HOSTILE),
    PositiveDataAcceptance(also=(404,)),
    UseAfterFree(),
    EnsureResourceAvailability(),
    IgnoredAuth(),
    UnsupportedMethod(),
    MaxResponseTime(limit_ms=5),
    StatusIs(any_of=(200, 201)),
    HeaderIs(name=HOSTILE, equals=HOSTILE),
    HeaderIs(name="a"),
    *(
        JsonPathIs(path=HOSTILE, op=op, value=HOSTILE)  # type: ignore[arg-type]
        for op in ("exists", "absent", "equals", "contains", "excludes", "max_items", "min_items")
    ),
)


def hostile_case() -> Case:
    captures = tuple(
        Capture(name=HOSTILE, source=source, path=HOSTILE, optional=optional)  # type: ignore[arg-type]
        for source in ("body", "header", "status")
        for optional in (True, False)
    )
    pairs = ((HOSTILE, HOSTILE),)
    steps = tuple(
        Step(
            operation=HOSTILE,
            identity=HOSTILE,
            checks=CHECKS,
            captures=captures,
            setup=True,
            request=Request(method=HOSTILE, path=HOSTILE, query=pairs, headers=pairs, cookies=pairs, body=body),
        )
        for body in BODIES
    )
    return make_case(
        name=HOSTILE,
        intent="negative",
        operation=HOSTILE,
        steps=steps,
        cleanup=steps,
        origin=Provenance(source=HOSTILE),
    )


@pytest.mark.parametrize("made", [STATEFUL, hostile_case()], ids=["plain", "hostile"])
def test_every_comment_and_line_of_a_script_is_what_it_seems(made: Case) -> None:
    script = curl_case(made, f"http://h/{HOSTILE if made is not STATEFUL else ''}")
    for line in script.splitlines():
        assert line.startswith(("# ", "curl -i "))
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", script)
    words = arguments(script)
    assert words.count("-i") == len(made.steps) + len(made.cleanup)


def names_called(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


KNOWN_CALLS = {
    "os.environ.get",
    "json.loads",
    "json.dumps",
    "re.sub",
    "re.fullmatch",
    "isinstance",
    "fill",
    "text",
    "in_path",
    "str",
    "requests.request",
    "requests.utils.quote",
    "response.json",
    "select",
    "credentials",
    "print",
    "len",
    "identity.upper",
    "value.items",
    "values.get",
    "response.headers.get",
    "response.elapsed.total_seconds",
    "jsonpath_rfc9535.find",
    "uuid.uuid4",
    "json.dumps(fill(...)).encode",
}


def test_hostile_strings_stay_strings_in_pytest_source() -> None:
    source = pytest_source(hostile_case(), "http://h/" + HOSTILE)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", source)
    tree = ast.parse(source)
    compile(source, "case.py", "exec")
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [name for name in functions if name.startswith("test_")] == [functions[-1]]
    assert {type(node) for node in tree.body} == {ast.Expr, ast.Import, ast.Assign, ast.FunctionDef}
    calls = {call for call in names_called(tree) if not re.match(r"'|\{|json\.dumps\(", call)}
    assert calls <= KNOWN_CALLS
    assert {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names} == {
        "json",
        "os",
        "re",
        "uuid",
        "jsonpath_rfc9535",
        "requests",
    }


@settings(max_examples=60, deadline=None)
@given(st.text(), st.text())
@example('"""\nimport os\n"""', "\\")
@example("\n    import os", "'''")
def test_any_text_gives_source_with_the_same_shape(one: str, other: str) -> None:
    def shape(name: str, value: str) -> list[str]:
        made = case(step("POST", "/" + value, TextBody(text=value), checks=(HeaderIs(name=value),)), name=name)
        tree = ast.parse(pytest_source(made, value))
        return [type(node).__name__ for node in ast.walk(tree)]

    assert shape(one, other) == shape("n", "v")


class _Pets(BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        type(self).seen.append((self.command, self.path, dict(self.headers), body))
        text = b'{"id": 7, "name": "Rex"}'
        self.send_response(201 if self.command == "POST" else 200)
        for name, value in (("Content-Type", "application/json"), ("ETag", "v1"), ("Content-Length", str(len(text)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def pets() -> Iterator[str]:
    _Pets.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pets)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_exported_source_of_our_own_case_runs_under_pytest(tmp_path: Path, pets: str) -> None:
    """The one place where exported source runs: written from a case of this file, to prove that it says the same."""
    (tmp_path / "test_case.py").write_text(pytest_source(STATEFUL, pets))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "test_case.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"API_HEADERS": '{"Authorization": "Bearer t"}', "PATH": ""},
    )
    assert done.returncode == 0, done.stdout
    (post, get, delete) = _Pets.seen
    assert post[:2] == ("POST", "/pets") and re.fullmatch(r"Rex [0-9a-f]{12}", json.loads(post[3])["name"])
    assert post[2]["Authorization"] == "Bearer t" and post[2]["Content-Type"] == "application/json"
    assert get[:2] == ("GET", "/pets/7?full=true&full=7") and get[2]["If-Match"] == "v1"
    assert "Authorization" not in get[2]
    assert delete[:2] == ("DELETE", "/pets/7")
