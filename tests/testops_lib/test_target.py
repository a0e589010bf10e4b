from __future__ import annotations

from pathlib import Path

import pytest

from testops_lib import pipeline
from testops_lib import settings as configuration
from testops_lib import target as targets
from testops_lib.errors import TargetError
from testops_lib.model import BasicAuth, TokenUse

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str, name: str = "pets.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_every_shipped_target_loads() -> None:
    found = targets.load_all(ROOT / "targets")
    assert {"shop", "airflow", "httpbin"} <= found.keys()
    assert found["airflow"].policy.methods == "safe"


def test_a_target_file_becomes_a_target(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
title: Pets
spec: pets-openapi.json
base_url: ${PETS_URL}/api/
auth:
  - name: user
    fixedHeaders: [{name: Authorization, value: "Bearer ${PETS_TOKEN}"}]
policy: {methods: safe, requests_per_second: 5}
gate: {only_new: true}
values: {petId: [1, 2]}
expected:
  - {operation: "GET /pets/*", statuses: [503], why: closed at night}
""",
    )
    target = targets.load(path)
    assert target.name == "pets"
    assert target.spec == str(tmp_path / "pets-openapi.json")
    assert target.identities[0].headers == (("Authorization", "Bearer ${PETS_TOKEN}"),)
    assert target.policy.requests_per_second == 5
    assert target.gate.only_new
    assert target.values == {"petId": (1, 2)}
    assert targets.expand(target.base_url, {"PETS_URL": "http://h"}) == "http://h/api"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spec: [1]", "spec"),
        ("values: {a: " + "[" * 100_000, "levels"),
        ("spec: x\npolicy: {method: safe}", "did you mean `methods`"),
        ("spec: x\nauth: [{name: a, fixedHeaders: [{name: Authorization, value: Bearer abc}]}]", "literal credential"),
        ("spec: x\nauth: [{name: none}]", "must be unique"),
        ("spec: x\nauth: [{name: a, createUsers: {}}]", "payloadRaw"),
        (
            "spec: x\nbase_url: u\nauth: [{name: a, createUsers: {endpoint: /u, payloadRaw: x, generators: []}}]",
            "never logs in",
        ),
        ("spec: x\nbase_url: u\nauth: [{name: a, bearer: abc}]", "literal credential"),
        ("spec: x\nbase_url: u\nauth: [{name: a, basic: {username: a, password: b}}]", "literal credential"),
        ("spec: x\nbase_url: u\nauth: [{name: a, apiKey: {name: k, value: v}}]", "literal credential"),
        ("spec: x\nbase_url: u\nauth: [{name: a, apiKey: {name: k, in: body, value: '${V}'}}]", "in"),
        (
            "spec: x\nbase_url: u\nauth: [{name: a, oauth2: {tokenUrl: /t, clientId: c, clientSecret: s}}]",
            "literal credential",
        ),
        ("spec: x\nbase_url: u\nauth: [{name: a, oauth2: {tokenUrl: /t, clientId: c, grant: password}}]", "username"),
        ("spec: x\nauth: [{name: a, loginEndpointAuth: {endpoint: /login}}]", "neither `token` nor `expectCookies`"),
        ("spec: x\nauth: [{name: a, fixedHeaders: [{name: X, value: '${A}'}]}]", "no `base_url`"),
        ("spec: 'x", "pets.yaml:"),
        ("- spec", "holds no mapping"),
        ("spec: !!python/object/apply:os.system [ls]", "YAML"),
    ],
)
def test_a_bad_target_file_gives_one_error_that_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message) as caught:
        targets.load(write(tmp_path, text))
    assert "pets.yaml" in str(caught.value)


def test_an_unknown_target_offers_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, "spec: x")
    with pytest.raises(TargetError, match="did you mean pets"):
        targets.find(tmp_path, "pest")


@pytest.mark.parametrize("name", ["../pets", "/etc/passwd", "Pets", ""])
def test_a_target_name_never_leaves_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(TargetError, match="there is no target"):
        targets.find(tmp_path, name)


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(TargetError, match="PETS_URL"):
        targets.expand("${PETS_URL}/v1", {}, where="pets")


def test_an_authentication_file_with_a_template_gives_its_users(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
auth:
  - name: ann
    loginEndpointAuth: {payloadUserPwd: {username: ann, password: one}}
  - name: bob
    loginEndpointAuth: {payloadUserPwd: {username: bob, password: two}}
authTemplate:
  loginEndpointAuth:
    endpoint: /login
    verb: POST
    contentType: application/json
    payloadUserPwd: {usernameField: user, passwordField: pass}
    token: {extractFrom: body, extractSelector: /token, sendIn: header, sendName: Authorization,
      sendTemplate: "Bearer {token}"}
""",
    )
    ann, bob = targets.load_auth(path)
    assert (ann.name, bob.name) == ("ann", "bob")
    assert ann.login is not None and bob.login is not None
    assert ann.login.payload == '{"user":"ann","pass":"one"}'
    assert bob.login.token == TokenUse(
        extract_from="body",
        selector="/token",
        send_in="header",
        send_name="Authorization",
        send_template="Bearer {token}",
    )


def test_values_are_read_from_the_environment_where_a_run_is_resolved(tmp_path: Path) -> None:
    write(tmp_path, 'spec: https://h/openapi.json\nvalues: {dag_id: ["${PETS_DAG}", 7]}\n')
    order, settings = pipeline.Order(target="pets"), configuration.read({"TESTOPS_TARGETS_DIR": str(tmp_path)})
    assert pipeline.resolve(order, settings, {"PETS_DAG": "feed"}).values == {"dag_id": ("feed", 7)}
    with pytest.raises(TargetError, match="PETS_DAG"):
        pipeline.resolve(order, settings, {})


def test_every_kind_of_credential_has_a_short_form(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
spec: x
base_url: https://h
auth:
  - {name: key, apiKey: {name: api_key, in: query, value: "${KEY}"}}
  - {name: cookie, apiKey: {name: sid, in: cookie, value: "${SID}"}}
  - {name: bearer, bearer: "${TOKEN}"}
  - {name: basic, basic: {username: ann, password: "${PASSWORD}"}}
  - {name: app, oauth2: {tokenUrl: /token, clientId: app, clientSecret: "${SECRET}", scope: read}}
""",
    )
    key, cookie, bearer, basic, app = targets.load(path).identities
    assert key.query == (("api_key", "${KEY}"),)
    assert cookie.cookies == (("sid", "${SID}"),)
    assert bearer.headers == (("Authorization", "Bearer ${TOKEN}"),)
    assert basic.basic == BasicAuth(username="ann", password="${PASSWORD}")
    assert app.login is not None
    assert app.login.basic == BasicAuth(username="app", password="${SECRET}")
    assert app.login.payload == "grant_type=client_credentials&scope=read"
