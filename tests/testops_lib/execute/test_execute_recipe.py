"""The script of a finding sends what the engine sent."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from testops_lib.execute import Engine
from testops_lib.export import public, recipe
from testops_lib.model import (
    BasicAuth,
    BytesBody,
    Capture,
    Case,
    Contract,
    Existing,
    FormBody,
    Identity,
    JsonBody,
    Login,
    MultipartBody,
    NotAServerError,
    Part,
    Request,
    TextBody,
    TokenUse,
)
from testops_lib.run.report import with_recipes
from testops_lib.verdict.analyze import analyze
from tests.testops_lib.execute.engine_server import Seen, Serve, answer, case, execute, plan, run_one, step

HOSTILE = '\'; touch pwned; $(touch pwned) `touch pwned` "$HOME" \\ \n# !! * ? \x1b[31m\u202e é 漢字 %s @x'
SHELLS = [shell for shell in ("dash", "sh", "bash") if shutil.which(shell)]


def ran(script: str, folder: Path, shell: str = "sh", **variables: str) -> subprocess.CompletedProcess[str]:
    path = folder / "again.sh"
    path.write_text(script, "utf-8")
    return subprocess.run(
        [shell, str(path)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def echo(connection: Any, seen: Seen) -> bytes:
    things = {"id": 7, "name": "a b/ü", "price": 2.5, "tags": [{"key": "k1"}], "ok": True}
    if seen.method == "DELETE":
        return answer(204, "")
    return answer(201 if seen.method == "POST" else 200, json.dumps(things), "Location: /things/7?x=é")


def sent(seen: Seen) -> tuple[Any, ...]:
    """A request as far as both must agree: unique tokens, boundaries and what only clients say of themselves aside."""
    own = {"host", "user-agent", "accept", "accept-encoding", "content-length", "connection"}
    pairs = [line.partition(":") for line in seen.header_lines]
    headers = sorted((name.lower(), value.strip()) for name, _, value in pairs if name.lower() not in own)
    text = repr((seen.line, headers, seen.body))
    boundary = re.search(r"boundary=\"?([\w-]+)", text)
    text = text.replace(boundary[1], "BOUNDARY") if boundary else text
    return (re.sub(r"(?<![0-9a-f])[0-9a-f]{12}(?![0-9a-f])", "UNIQUE", text),)


TAKEN = (
    Capture(name="id", path="$.id"),
    Capture(name="price", path="$.price"),
    Capture(name="name", path="$['name']"),
    Capture(name="key", path="$.tags[*].key"),
    Capture(name="at", source="header", path="location"),
    Capture(name="said", source="status"),
    Capture(name="no-such", path="$.nothing", optional=True),
)

CASES: dict[str, Case] = {
    "captures in every place": case(
        step("POST", "/things", body=JsonBody(value={"name": "n-{unique}", "of": "{unique}"}), captures=TAKEN),
        step(
            "PUT",
            "/things/{id}/{name}",
            query=(("q", "{name}&{key}"), ("n", "{said}")),
            headers=(("X-At", "{at}"), ("X-Empty", "")),
            cookies=(("c", "{key}"),),
            body=JsonBody(value={"id": "{id}", "price": "{price}", "t": '{name}: {price} "q"', "{id}": ["{name}"]}),
        ),
        cleanup=(step("DELETE", "/things/{id}"), step("DELETE", "/things/{no-such}")),
    ),
    "hostile text": case(
        step(
            "POST",
            "/x/%2e/%7Bid%7D/a b/../é",
            query=((HOSTILE, HOSTILE), ("empty", "")),
            headers=(("X-Odd", "'$HOME' `id` \"é\""),),
            body=JsonBody(value={HOSTILE: [HOSTILE, None, 1e3, "{who}"]}),
        ),
        name=HOSTILE,
    ),
    "text": case(step("POST", "/t", body=TextBody(text='{"a": ' + HOSTILE, media_type="application/json"))),
    "text without a media type": case(step("PATCH", "/t", body=TextBody(text="@/etc/passwd", media_type=""))),
    "bytes": case(step("PUT", "/b", body=BytesBody(data=bytes(range(256)) * 3))),
    "long": case(step("POST", "/l", body=JsonBody(value={"a": "x" * 30_000}))),
    "form": case(step("POST", "/f", body=FormBody(fields=(("a b", HOSTILE), ("u", "{unique}"), ("", ""))))),
    "no body": case(
        step("POST", "/p"), step("HEAD", "/h"), step("OPTIONS", "/o"), step("GET", "/g?x=1", query=(("y", "2"),))
    ),
    "malformed": case(step("GET", "/a{b}[c]//.//..", headers=(("Content-Type", "text/odd"),))),
}


@pytest.mark.parametrize("shell", SHELLS[:2])
@pytest.mark.parametrize("name", CASES)
def test_a_script_sends_what_was_sent(serve: Serve, tmp_path: Path, name: str, shell: str) -> None:
    server = serve(echo)
    result = run_one(plan(server.url, foreign="write"), CASES[name])
    assert result.verdict == "passed", result.reason
    ours = [sent(request) for request in server.seen]
    server.seen.clear()
    done = ran(recipe(CASES[name], "http://127.0.0.1:1"), tmp_path, shell, BASE_URL=server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert [sent(request) for request in server.seen] == ours
    assert [path.name for path in tmp_path.iterdir()] == ["again.sh"], "text of the case acted"


def test_uploads_keep_their_names_and_types(serve: Serve, tmp_path: Path) -> None:
    server = serve(echo)
    parts = (
        Part(name="file", data=b"\x89PNG\r\n\x00", filename="a.png", media_type="image/png"),
        Part(name="note", data=b"hello; there", media_type="text/plain"),
    )
    upload = case(step("POST", "/up", body=MultipartBody(parts=parts)))
    done = ran(recipe(upload, server.url), tmp_path)
    [seen] = server.seen
    assert (done.returncode, done.stderr) == (0, "")
    assert b'name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x00\r\n' in seen.body
    assert b'name="note"\r\nContent-Type: text/plain\r\n\r\nhello; there\r\n' in seen.body


def test_credentials_are_variables_that_the_script_asks_for(serve: Serve, tmp_path: Path) -> None:
    users = (
        Identity(name="staff", headers=(("Authorization", "Bearer s3cret-literal"), ("X-Tenant", "${TENANT}"))),
        Identity(name="ann", query=(("api_key", "k3y-literal"),), cookies=(("sid", "${SID}"),)),
        Identity(name="basic", basic=BasicAuth(username="joe", password="pa55-literal")),
        Identity(
            name="login",
            login=Login(
                url="/sessions",
                payload='{"password": "pa55-literal"}',
                token=TokenUse(
                    extract_from="body",
                    selector="/token",
                    send_in="header",
                    send_name="X-Auth",
                    send_template="T {token}",
                ),
            ),
        ),
    )
    names = ("", "ann", "basic", "login", "none", "invalid")
    steps = [step("GET", f"/{name or 'default'}", identity=name) for name in names]
    for identities in (users, public(users)):
        server = serve(echo)
        script = recipe(case(*steps), server.url, identities)
        assert "literal" not in script
        asked = ran(script, tmp_path, TENANT="t")
        assert asked.returncode == 2 and re.match(r"set \w+: ", asked.stderr) and not server.seen
        environment = {"TOKEN": "aa", "TENANT": "bb", "API_KEY_ANN": "c&c", "SID": "dd", "PASSWORD_BASIC": "e'e"}
        done = ran(script, tmp_path, TOKEN_LOGIN="ff", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        seen = {request.target.partition("?")[0][1:]: request for request in server.seen}
        assert (seen["default"].header("Authorization"), seen["default"].header("X-Tenant")) == ("Bearer aa", "bb")
        assert seen["ann"].target == "/ann?api_key=c%26c" and seen["ann"].header("Cookie") == "sid=dd"
        assert seen["basic"].header("Authorization") == "Basic am9lOmUnZQ=="
        assert seen["login"].header("X-Auth") == "T ff"
        assert seen["none"].header("Authorization") is None and seen["none"].header("X-Tenant") is None
        assert seen["invalid"].header("Authorization") == "Bearer invalid"


def test_a_script_ends_where_nothing_can_be_taken_and_still_cleans_up(serve: Serve, tmp_path: Path) -> None:
    server = serve(echo)
    steps = (
        step("POST", "/things", captures=(Capture(name="id", path="$.id"),)),
        step("GET", "/things/{id}", captures=(Capture(name="gone", path="$.gone"),)),
        step("GET", "/never/{gone}"),
    )
    script = recipe(case(*steps, cleanup=(step("DELETE", "/things/{id}"),)), server.url, failing=2, wrong="not there")
    done = ran(script, tmp_path)
    assert done.returncode == 1 and "== no gone in the answer" in done.stdout
    assert server.targets() == ["POST /things", "GET /things/7", "DELETE /things/7"]


def test_what_follows_the_failing_step_is_left_out_but_not_the_cleanup(serve: Serve, tmp_path: Path) -> None:
    server = serve(echo)
    steps = tuple(step("GET", f"/{number}") for number in range(4))
    done = ran(
        recipe(case(*steps, cleanup=(step("DELETE", "/0"),)), server.url, failing=1, wrong="wrong $(id)"), tmp_path
    )
    assert server.targets() == ["GET /0", "GET /1", "DELETE /0"]
    assert "== wrong: wrong $(id)" in done.stdout and done.returncode == 0


def test_a_script_takes_what_exists_where_the_case_may_not_make_it(serve: Serve, tmp_path: Path) -> None:
    def refusing(connection: Any, seen: Seen) -> bytes:
        if seen.method == "POST":
            return answer(403)
        return answer(200, '[{"id": 5}]') if seen.target == "/shelves" else answer(500)

    listed = Existing(
        operation="GET /shelves",
        beside=True,
        places={"$.id": "$[0].id"},
        request=Request(method="GET", path="/shelves"),
    )
    make = step("POST", "/shelves", setup=True, captures=(Capture(name="shelf_id", path="$.id"),))
    read = step("GET", "/shelves/{shelf_id}", checks=(NotAServerError(),))
    for existing in ((listed,), (Existing(values={"$.id": 5}),)):
        server = serve(refusing)
        contracts = {"POST /shelves": Contract(operation="POST /shelves", responses={}, existing=existing)}
        the_case = case(make, read)
        [result] = execute(Engine(plan(server.url, concurrency=1), contracts, run="r"), [the_case])
        assert [failure.check for failure in result.failures] == ["not_a_server_error"], result.reason
        report = analyze([result], target="t", run="r", operations={}, base_url=server.url)
        [finding] = with_recipes(report, {the_case.id: the_case}, ()).findings
        server.seen.clear()
        done = ran(finding.example.recipe, tmp_path)
        assert (done.returncode, server.targets()[-1]) == (0, "GET /shelves/5"), done.stdout + done.stderr
