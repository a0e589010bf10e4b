"""Who a step speaks as: credentials, logins, what is renewed and what never leaks."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

import pytest
import yaml
from msgspec import structs

from testops_lib import target as targets
from testops_lib.errors import TargetError
from testops_lib.execute import Engine, identity
from testops_lib.model import BasicAuth, Identity, JsonPathIs, Login, Result, TokenUse
from tests.testops_lib.execute.engine_server import Seen, Serve, answer, case, execute, plan, run_one, step

STATIC = Identity(
    name="ann",
    headers=(("Authorization", "Bearer ${ANN_TOKEN}"),),
    query=(("key", "${ANN_KEY}"),),
    cookies=(("c", "cookie-1"),),
)
ENV = {"ANN_TOKEN": "token-of-ann", "ANN_KEY": "key/of ann", "PASSWORD": 'pa"ss\\word'}

TOKEN = TokenUse(
    extract_from="body", selector="/data/0/token", send_in="header", send_name="X-Token", send_template="T {token}"
)
LOGIN = Login(
    url="/login?a=1", payload='{"user": "bob", "password": "${PASSWORD}"}', headers=(("X-L", "1"),), token=TOKEN
)
BOB = Identity(name="bob", login=LOGIN)


def credentials(seen: Seen) -> tuple[str | None, str | None, str]:
    return seen.header("authorization"), seen.header("cookie"), seen.target


def test_default_identity_is_the_first(serve: Serve) -> None:
    server = serve()
    other = Identity(name="eve", headers=(("Authorization", "Basic eve"),))
    steps = (step(), step(identity="eve"), step(identity="none"), step(identity="ann"))
    the_plan = plan(server.url, identities=(STATIC, other))
    assert run_one(the_plan, case(*steps), environ=ENV).verdict == "passed"
    ann = ("Bearer token-of-ann", "c=cookie-1", "/?key=key%2Fof%20ann")
    assert [credentials(seen) for seen in server.seen] == [ann, ("Basic eve", None, "/"), (None, None, "/"), ann]


def test_invalid_identity_has_the_shape_of_the_default_one(serve: Serve) -> None:
    server = serve()
    basic = Identity(name="b", headers=(("Authorization", "Basic ${PASSWORD}"), ("X-Api-Key", "k")))
    token_only = Identity(name="t", login=LOGIN)
    for who in ((STATIC,), (basic,), (token_only,), ()):
        run_one(plan(server.url, identities=who), case(step(identity="invalid")), environ=ENV)
    bearer, second, third, nobody = server.seen
    fake = (bearer.header("authorization") or "").removeprefix("Bearer ")
    assert fake.startswith("invalid-") and len(fake) == 32
    assert (bearer.header("cookie"), bearer.target) == (f"c={fake}", f"/?key={fake}")
    scheme, _, encoded = (second.header("authorization") or "").partition(" ")
    assert scheme == "Basic" and base64.b64decode(encoded).decode() == f"invalid:{fake}"
    assert second.header("x-api-key") == fake
    assert (third.header("x-token"), third.target) == (f"T {fake}", "/")
    assert nobody.header("authorization") == f"Bearer {fake}"


def test_request_that_names_its_own_credentials_keeps_them(serve: Serve) -> None:
    server = serve()
    mine = step(headers=(("authorization", "mine"),), query=(("key", "mine"),), cookies=(("c", "mine"), ("d", "2")))
    run_one(plan(server.url, identities=(STATIC,)), case(mine), environ=ENV)
    assert credentials(server.seen[0]) == ("mine", "c=mine; d=2", "/?key=mine")


def test_cookies_of_request_and_identity_share_one_header(serve: Serve) -> None:
    server = serve()
    run_one(plan(server.url, identities=(STATIC,)), case(step(cookies=(("d", "2"),))), environ=ENV)
    assert [line for line in server.seen[0].header_lines if line.startswith("Cookie")] == ["Cookie: d=2; c=cookie-1"]


def test_missing_variable_is_named(serve: Serve) -> None:
    server = serve()
    with pytest.raises(TargetError, match="ANN_KEY is not set"):
        run_one(plan(server.url, identities=(STATIC,)), case(step()), environ={"ANN_TOKEN": "x"})
    assert run_one(plan(server.url, identities=(STATIC,)), case(step(identity="none")), environ={}).verdict == "passed"
    assert len(server.seen) == 1


def test_unknown_identity_is_an_errored_case(serve: Serve) -> None:
    result = run_one(plan(serve().url), case(step(identity="who")))
    assert (result.verdict, result.reason) == ("errored", "refused: unknown identity 'who'")


def test_secrets_stay_out_of_results(serve: Serve) -> None:
    def handler(connection: Any, seen: Seen) -> bytes:
        if seen.target.startswith("/login"):
            return answer(200, '{"data": [{"token": "tok-from-login"}]}', "Set-Cookie: s=cookie-from-login")
        encoded = base64.b64encode(b"me:token-of-ann").decode()
        said = {"message": f"bad {seen.header('authorization')} {seen.header('x-token')} {encoded} {seen.target}"}
        return answer(500, json.dumps(said), f"X-Echo: {seen.header('cookie')}")

    server = serve(handler)
    both = Identity(name="x", headers=STATIC.headers, query=STATIC.query, cookies=STATIC.cookies, login=LOGIN)
    cookie_login = Identity(name="y", login=Login(url="/login", expect_cookies=True))
    for who in (STATIC, both, cookie_login):
        result = run_one(plan(server.url, identities=(who,)), case(step(expect=200)), environ=ENV)
        assert result.verdict == "failed"
        shown = repr(result)
        for secret in ("token-of-ann", "key/of", "key%2Fof", "cookie-1", "tok-from-login", "cookie-from-login"):
            assert secret not in shown
        assert who is cookie_login or base64.b64encode(b"me:token-of-ann").decode() not in shown
        assert "[redacted]" in shown


def test_literal_credentials_of_a_file_at_the_desk_stay_out_of_results(serve: Serve) -> None:
    payload: list[str] = []

    def handler(connection: Any, seen: Seen) -> bytes:
        if seen.target.startswith("/login"):
            payload.append(seen.body.decode() + f" {seen.header('x-l')}")
            return answer(200, '{"data": [{"token": "tok-from-login"}]}')
        sid = (seen.header("cookie") or "").partition("sid=")[2].partition(";")[0]
        return answer(500, f"not for {payload[-1].replace(chr(34), ' ')}, {sid}", "Content-Type: text/plain")

    server = serve(handler)
    for body, media in (
        ('{"user": "bob", "password": "hunter-2-literal"}', "application/json"),
        ("user=bob&pass=hunter-2-literal", "application/x-www-form-urlencoded"),
    ):
        login = Login(
            url="/login", payload=body, media_type=media, headers=(("X-L", "literal-of-header"),), token=TOKEN
        )
        who = Identity(name="x", headers=(("Cookie", "lang=english; sid=cookie-value-7"),), login=login)
        shown = repr(run_one(plan(server.url, identities=(who,)), case(step(expect=200))))
        assert "not for" in shown
        for secret in ("hunter-2-literal", "literal-of-header", "cookie-value-7"):
            assert secret not in shown


def test_headers_that_are_no_credentials_blot_nothing_out(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(500, "{}", "Content-Type: application/json"))
    who = Identity(name="x", headers=(("Accept", "application/json"), ("Authorization", "Bearer abcdefgh")))
    result = run_one(plan(server.url, identities=(who,)), case(step(expect=200)))
    assert result.steps[0].response is not None
    assert ("Content-Type", "application/json") in result.steps[0].response.headers


def test_a_secret_across_the_end_of_a_message_is_masked_before_the_message_is_cut(serve: Serve) -> None:
    token = "t0p-" + "x" * 60
    said = "y" * 170 + f" {token} " + "z" * 2_000
    server = serve(lambda connection, seen: answer(200, json.dumps({"a": said})))
    who = Identity(name="x", headers=(("X-Key", token),))
    wrong = structs.replace(step(), checks=(JsonPathIs(path="$.a", op="equals", value="no"),))
    result = run_one(plan(server.url, identities=(who,)), case(wrong))
    assert result.failures and "t0p-" not in repr(result)
    assert len(result.failures[0].message) < 500


# -- logins


class Shop:
    """A target with a login; tokens it no longer likes are answered 401."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.valid: set[str] = set()
        self.lock = threading.Lock()
        self.login_status = 200

    def __call__(self, connection: Any, seen: Seen) -> bytes:
        if seen.target.startswith("/login"):
            time.sleep(0.02)
            with self.lock:
                self.tokens.append(f"token-{len(self.tokens)}")
                self.valid.add(f"T {self.tokens[-1]}")
            return answer(
                self.login_status,
                json.dumps({"data": [{"token": self.tokens[-1]}]}),
                f"X-T: {self.tokens[-1]}",
                "Set-Cookie: sid=abc123; Path=/; HttpOnly",
                "Set-Cookie: other=xyz789",
            )
        return answer(200 if seen.header("x-token") in self.valid else 401)


def test_login_happens_once_for_all_cases(serve: Serve) -> None:
    shop = Shop()
    server = serve(shop)
    engine = Engine(plan(server.url, identities=(BOB,), concurrency=8), {}, run="r", environ=ENV)
    results = execute(engine, [case(step("GET", f"/{i}", expect=200)) for i in range(20)])
    assert {r.verdict for r in results} == {"passed"} and sum(r.requests for r in results) == 21
    (login,) = [seen for seen in server.seen if seen.target.startswith("/login")]
    assert login.line == "POST /login?a=1 HTTP/1.1" and login.header("x-l") == "1"
    assert json.loads(login.body) == {"user": "bob", "password": 'pa"ss\\word'}
    assert engine.requests_sent == 21


def test_form_login_encodes_what_the_environment_gives(serve: Serve) -> None:
    server = serve(Shop())
    login = Login(url="login", payload="u=b&p=${PASSWORD}", media_type="application/x-www-form-urlencoded", token=TOKEN)
    run_one(plan(f"{server.url}/base", identities=(Identity(name="f", login=login),)), case(step()), environ=ENV)
    assert server.seen[0].target == "/login" and server.seen[0].body == b"u=b&p=pa%22ss%5Cword"


def test_token_may_come_and_go_elsewhere(serve: Serve) -> None:
    server = serve(Shop())
    use = TokenUse(extract_from="header", selector="x-t", send_in="query", send_name="tok")
    login = Login(url=f"{server.url}/login", method="GET", token=use, expect_cookies=True)
    run_one(plan(server.url, identities=(Identity(name="h", login=login),)), case(step("GET", "/x?a=1")))
    assert server.seen[0].method == "GET" and server.seen[0].body == b""
    assert credentials(server.seen[1]) == (None, "sid=abc123; other=xyz789", "/x?a=1&tok=token-0")


def test_cookies_of_answers_are_never_kept(serve: Serve) -> None:
    server = serve(Shop())
    execute(Engine(plan(server.url, concurrency=1), {}, run="r"), [case(step("GET", "/login"), step()), case(step())])
    assert [seen.header("cookie") for seen in server.seen] == [None, None, None]


def expire(shop: Shop) -> Any:
    def handler(connection: Any, seen: Seen) -> bytes:
        if seen.target == "/expire":
            shop.valid.clear()
            return answer()
        return shop(connection, seen)

    return handler


def two_halves(engine: Engine) -> list[Result]:
    steps = [step("GET", "/a", expect=200), step("GET", "/expire", identity="none"), step("POST", "/b", expect=200)]
    return execute(engine, [case(*steps)])


def test_401_renews_the_session_once_it_is_old_enough(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    server = serve(expire(shop))
    monkeypatch.setattr(identity, "LOGIN_AGAIN_S", 0.0)  # the clock cannot be made to run
    engine = Engine(plan(server.url, identities=(BOB,)), {}, run="r", environ=ENV)
    (result,) = two_halves(engine)
    assert result.verdict == "passed" and result.steps[2].requests == 2
    assert [seen.header("x-token") for seen in server.seen if seen.target == "/b"] == ["T token-0", "T token-1"]
    assert engine.requests_sent == 6


def test_401_soon_after_a_login_is_taken_as_it_is(serve: Serve) -> None:
    shop = Shop()
    server = serve(expire(shop))
    (result,) = two_halves(Engine(plan(server.url, identities=(BOB,)), {}, run="r", environ=ENV))
    assert result.verdict == "failed" and result.steps[2].status == 401
    assert len(shop.tokens) == 1


def test_401_to_bad_credentials_renews_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    server = serve(shop)
    monkeypatch.setattr(identity, "LOGIN_AGAIN_S", 0.0)
    asked = (step(expect=200), step(identity="invalid"), step(identity="none"), step(headers=(("X-Token", "bad"),)))
    assert run_one(plan(server.url, identities=(BOB,)), case(*asked), environ=ENV).verdict == "passed"
    assert len(shop.tokens) == 1 and len(server.seen) == 5


def test_failed_login_errors_the_cases_and_is_not_hammered(serve: Serve) -> None:
    shop = Shop()
    shop.login_status = 403
    server = serve(shop)
    engine = Engine(plan(server.url, identities=(BOB,)), {}, run="r", environ=ENV)
    results = execute(engine, [case(step("GET", f"/{i}")) for i in range(5)])
    assert {(r.verdict, r.reason) for r in results} == {("errored", "login failed: identity bob: answered 403")}
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "body", ["", "[]", '{"data": []}', '{"data": [{"token": null}]}', '{"data": [{"token": "a\\nb"}]}']
)
def test_login_without_a_usable_token_fails(serve: Serve, body: str) -> None:
    server = serve(lambda c, s: answer(200, body))
    result = run_one(plan(server.url, identities=(BOB,)), case(step()), environ=ENV)
    assert result.verdict == "errored" and result.reason.startswith("login failed: identity bob: ")


def test_login_elsewhere_must_be_allowed(serve: Serve) -> None:
    server, shop = serve(Shop()), serve(Shop())
    far = Identity(name="f", login=Login(url=f"{shop.url}/login", token=TOKEN))
    with pytest.raises(TargetError, match=r"add 127\.0\.0\.1"):
        run_one(plan(server.url, identities=(far,)), case(step()))
    assert shop.connections == 0
    run_one(plan(server.url, identities=(far,), hosts=(f"127.0.0.1:{shop.port}",)), case(step()))
    assert len(shop.seen) == 1 and server.seen[0].header("x-token") == "T token-0"


def test_login_is_allowed_where_only_safe_methods_are(serve: Serve) -> None:
    server = serve(Shop())
    result = run_one(
        plan(server.url, identities=(BOB,), methods="safe"), case(step("GET", "/", expect=200)), environ=ENV
    )
    assert result.verdict == "passed" and server.seen[0].method == "POST"


def test_last_cases_have_a_session_of_their_own(serve: Serve) -> None:
    shop = Shop()
    server = serve(shop)
    cases = [case(step("GET", "/a")), case(step("GET", "/logout"), last=True)]
    execute(Engine(plan(server.url, identities=(BOB,)), {}, run="r", environ=ENV), cases)
    used = {seen.target: seen.header("x-token") for seen in server.seen if not seen.target.startswith("/login")}
    assert used == {"/a": "T token-0", "/logout": "T token-1"}


# -- basic, OAuth 2


def decoded(header: str | None) -> str:
    scheme, _, encoded = (header or "").partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded).decode()


def test_basic_credentials_come_from_the_environment_and_never_leak(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(500, f"not you, {seen.header('authorization')} {ENV['PASSWORD']}"))
    who = Identity(name="b", basic=BasicAuth(username="bob", password="${PASSWORD}"))
    steps = (step(identity="b", expect=200), step(identity="invalid"))
    shown = repr([run_one(plan(server.url, identities=(who,)), case(only_step), environ=ENV) for only_step in steps])
    assert decoded(server.seen[0].header("authorization")) == f"bob:{ENV['PASSWORD']}"
    assert decoded(server.seen[1].header("authorization")).startswith("invalid:invalid-")
    sent = (server.seen[0].header("authorization") or "").partition(" ")[2]
    assert "not you" in shown and sent not in shown and ENV["PASSWORD"] not in shown


class Issuer:
    """A token endpoint (RFC 6749) whose tokens live `lives_s`, and the API that takes them."""

    def __init__(self, lives_s: object) -> None:
        self.lives_s, self.issued = lives_s, 0

    def __call__(self, connection: Any, seen: Seen) -> bytes:
        if seen.target == "/token":
            self.issued += 1
            said = {"access_token": f"oauth-{self.issued}", "token_type": "Bearer", "expires_in": self.lives_s}
            return answer(200, json.dumps(said))
        return answer(200 if seen.header("authorization") == f"Bearer oauth-{self.issued}" else 401)


def oauth2(**wanted: str) -> Identity:
    entry = {"name": "app", "oauth2": {"tokenUrl": "/token", "clientId": "app 1", **wanted}}
    (made,) = targets.identities({"auth": [entry]}, where="test", literal_secrets=False)
    return made


def test_oauth2_client_credentials_are_exchanged_once_for_a_bearer_token(serve: Serve) -> None:
    server = serve(Issuer(3600))
    who = oauth2(clientSecret="${PASSWORD}", scope="read write")
    engine = Engine(plan(server.url, identities=(who,)), {}, run="r", environ=ENV)
    results = execute(engine, [case(step("GET", f"/{i}", expect=200)) for i in range(5)])
    assert {result.verdict for result in results} == {"passed"}
    (asked,) = [seen for seen in server.seen if seen.target == "/token"]
    assert asked.body == b"grant_type=client_credentials&scope=read+write"
    assert decoded(asked.header("authorization")) == "app+1:pa%22ss%5Cword", "form-encoded first: RFC 6749, 2.3.1"
    assert "oauth-1" not in repr(results) and ENV["PASSWORD"] not in repr(results)


def test_oauth2_password_grant_may_send_the_client_in_the_body(serve: Serve) -> None:
    server = serve(Issuer(3600))
    who = oauth2(grant="password", username="${ANN_KEY}", password="${PASSWORD}", clientIn="body")
    assert run_one(plan(server.url, identities=(who,)), case(step(expect=200)), environ=ENV).verdict == "passed"
    assert server.seen[0].header("authorization") is None
    assert server.seen[0].body == b"grant_type=password&username=key%2Fof+ann&password=pa%22ss%5Cword&client_id=app+1"


def test_a_token_that_is_about_to_end_is_replaced_before_it_is_sent(serve: Serve) -> None:
    issuer = Issuer(0)
    server = serve(issuer)
    engine = Engine(plan(server.url, identities=(oauth2(),), concurrency=1), {}, run="r", environ=ENV)
    results = execute(engine, [case(step("GET", f"/{i}", expect=200)) for i in range(3)])
    assert {result.verdict for result in results} == {"passed"} and issuer.issued == 3


@pytest.mark.parametrize("lives_s", [None, "soon", -5, True, [1], "9" * 5000])
def test_a_lifetime_that_is_no_number_of_seconds_is_no_end(serve: Serve, lives_s: object) -> None:
    issuer = Issuer(lives_s)
    server = serve(issuer)
    engine = Engine(plan(server.url, identities=(oauth2(),), concurrency=1), {}, run="r", environ=ENV)
    execute(engine, [case(step("GET", f"/{i}")) for i in range(3)])
    assert issuer.issued == 1


def test_a_token_may_come_in_a_cookie(serve: Serve) -> None:
    server = serve(Shop())
    use = TokenUse(extract_from="cookie", selector="sid", send_in="header", send_name="X-Csrf")
    run_one(plan(server.url, identities=(Identity(name="c", login=Login(url="/login", token=use)),)), case(step()))
    assert (server.seen[1].header("x-csrf"), server.seen[1].header("cookie")) == ("abc123", None)


# -- users who do not exist yet


class Registry:
    """An API whose users register before they log in."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}

    def __call__(self, connection: Any, seen: Seen) -> bytes:
        if seen.target == "/users":
            sent = json.loads(seen.body)
            taken = sent["name"] in self.users
            self.users[sent["name"]] = sent["password"]
            return answer(409 if taken else 201)
        if seen.target == "/login":
            sent = json.loads(seen.body)
            good = self.users.get(sent["name"]) == sent["password"]
            return answer(200, json.dumps({"token": f"of-{sent['name']}"})) if good else answer(403)
        return answer(200 if seen.header("authorization") == f"Bearer of-{next(iter(self.users), '')}" else 401)


NEWCOMER = """
auth:
  - name: newcomer
    createUsers:
      endpoint: /users
      verb: POST
      contentType: application/json
      payloadRaw: '{"name": "{$name}", "password": "Any-Pass-1"}'
      generators: [{placeHolder: "{$name}", prefix: user_, postfix: "@example.com", maxLength: 25}]
    loginEndpointAuth:
      endpoint: /login
      verb: POST
      contentType: application/json
      payloadRaw: '{"name": "{$name}", "password": "Any-Pass-1"}'
      token:
        {extractFrom: body, extractSelector: /token, sendIn: header, sendName: Authorization,
         sendTemplate: "Bearer {token}"}
"""


def newcomer() -> Identity:
    (made,) = targets.identities(yaml.safe_load(NEWCOMER), where="test", literal_secrets=False)
    return made


def test_a_user_is_created_once_before_the_first_login(serve: Serve) -> None:
    registry = Registry()
    server = serve(registry)
    engine = Engine(plan(server.url, identities=(newcomer(),)), {}, run="r")
    results = execute(engine, [case(step("GET", f"/{i}", expect=200)) for i in range(6)])
    assert {result.verdict for result in results} == {"passed"}
    (name,) = registry.users
    assert name.startswith("user_") and name.endswith("@example.com") and len(name) <= 25
    assert [seen.target for seen in server.seen[:2]] == ["/users", "/login"]
    assert "Any-Pass-1" not in repr(results)
    execute(Engine(plan(server.url, identities=(newcomer(),)), {}, run="r"), [case(step())])
    assert len(registry.users) == 2, "another runner makes another one"


def test_a_user_who_cannot_be_created_is_said_and_not_tried_without_end(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(403 if seen.target == "/users" else 200))
    results = execute(
        Engine(plan(server.url, identities=(newcomer(),)), {}, run="r"), [case(step("GET", f"/{i}")) for i in range(4)]
    )
    said = "the user could not be created: identity newcomer: answered 403"
    assert {(result.verdict, result.reason) for result in results} == {("errored", said)}
    assert [seen.target for seen in server.seen] == ["/users"]
