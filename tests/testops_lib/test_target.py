from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testops_lib import settings as configuration
from testops_lib import target as targets
from testops_lib.errors import TargetError
from testops_lib.model import CHECKS, BasicAuth, GateRules, Policy, TokenUse
from testops_lib.run.conf import resolve
from testops_lib.target import RunConf
from tests.paths import ROOT


def write(folder: Path, text: str, name: str = "pets.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_every_shipped_target_loads() -> None:
    loaded = targets.load_all(ROOT / "targets")
    assert {"shop", "airflow", "httpbin"} <= loaded.keys()
    assert loaded["airflow"].policy.methods == "safe"


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
            "spec: x\nbase_url: http://u\nauth: [{name: a, createUsers: {endpoint: /, payloadRaw: x, generators: []}}]",
            "never logs in",
        ),
        ("spec: x\nbase_url: http://u\nauth: [{name: a, bearer: abc}]", "literal credential"),
        ("spec: x\nbase_url: http://u\nauth: [{name: a, basic: {username: a, password: b}}]", "literal credential"),
        ("spec: x\nbase_url: http://u\nauth: [{name: a, apiKey: {name: k, value: v}}]", "literal credential"),
        ("spec: x\nbase_url: http://u\nauth: [{name: a, apiKey: {name: k, in: body, value: '${V}'}}]", "in"),
        (
            "spec: x\nbase_url: http://u\nauth: [{name: a, oauth2: {tokenUrl: /t, clientId: c, clientSecret: s}}]",
            "literal credential",
        ),
        (
            "spec: x\nbase_url: http://u\nauth: [{name: a, oauth2: {tokenUrl: /t, clientId: c, grant: password}}]",
            "username",
        ),
        ("spec: x\nauth: [{name: a, loginEndpointAuth: {endpoint: /login}}]", "neither `token` nor `expectCookies`"),
        ("spec: x\nauth: [{name: a, fixedHeaders: [{name: X, value: '${A}'}]}]", "no `base_url`"),
        ("spec: 'x", "pets.yaml:"),
        ("- spec", "holds no mapping"),
        ("spec: x\npolicy: {requests_per_second: -5}", r"policy\.requests_per_second"),
        ("spec: x\npolicy: {requests_per_second: .inf}", r"policy\.requests_per_second"),
        ("spec: x\npolicy: {request_timeout_s: .nan}", r"policy\.request_timeout_s"),
        ("spec: x\npolicy: {concurrency: 0}", r"policy\.concurrency"),
        ("spec: x\npolicy: {cases_per_batch: 0}", r"policy\.cases_per_batch"),
        ("spec: x\npolicy: {hosts: ['http://h/']}", r"policy\.hosts"),
        ("spec: x\ngate: {max_errored_rate: 5}", r"gate\.max_errored_rate"),
        ("spec: x\ngate: {min_pass_rate: -0.1}", r"gate\.min_pass_rate"),
        ("spec: x\ngate: {ignore: [not_a_server_eror]}", "did you mean not_a_server_error"),
        ("spec: x\ngenerate: {max_cases: -3}", r"generate\.max_cases"),
        ("spec: x\ngenerate: {sources: [rule]}", r"generate\.sources"),
        ("spec: x\nexpected: [{operation: 'GET *', statuses: [42], why: x}]", r"expected\[0\]\.statuses"),
        ("spec: x\nschedule: every night", "cron"),
        ("spec: x\nbase_url: 'localhost:8000'", "base_url is no http"),
        ("spec: x\nbase_url: 'http://ann:hunter2@h'", "base_url holds a user or a password"),
        ("spec: !!python/object/apply:os.system [ls]", "YAML"),
    ],
)
def test_a_bad_target_file_gives_one_error_that_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message) as caught:
        targets.load(write(tmp_path, text))
    assert "pets.yaml" in str(caught.value)


SCALARS = (
    st.integers(-(10**12), 10**12)
    | st.floats()
    | st.booleans()
    | st.none()
    | st.text(max_size=8)
    | st.sampled_from(
        ["safe", "all", "rules", "status", "0 3 * * *", "@daily", "http://h/v1", "${URL}", "5", "-1", ".inf"]
    )
)
KEYS = {
    "policy": Policy.__struct_encode_fields__,
    "gate": GateRules.__struct_encode_fields__,
    "generate": targets.Generate.__struct_encode_fields__,
    "operations": targets.Scope.__struct_encode_fields__,
}


@st.composite
def target_files(draw: st.DrawFn) -> dict[str, Any]:
    """Target files whose keys are right and whose values may be anything."""
    document: dict[str, Any] = {"spec": draw(st.just("openapi.json") | SCALARS)}
    for key in draw(
        st.lists(st.sampled_from(["title", "base_url", "schedule", "values", "expected", "pod"]), max_size=2)
    ):
        document[key] = draw(SCALARS | st.lists(SCALARS, max_size=2))
    for section, names in KEYS.items():
        chosen = draw(st.lists(st.sampled_from(names), max_size=3))
        if chosen:
            document[section] = {name: draw(SCALARS | st.lists(SCALARS, max_size=2)) for name in chosen}
    return document


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=target_files())
def test_every_target_file_loads_to_sane_values_or_is_refused_with_place_and_remedy(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    path = write(tmp_path, yaml.safe_dump(document, allow_unicode=True))
    try:
        target = targets.load(path)
    except TargetError as error:
        assert "pets.yaml" in error.where and error.what and error.next_step
        return
    policy, gate, generate = target.policy, target.gate, target.generate
    assert 1 <= policy.concurrency <= 1_000 and 1 <= policy.cases_per_batch
    assert 0 <= policy.requests_per_second < float("inf") and 0 < policy.request_timeout_s <= 3_600
    assert 0 < policy.case_timeout_s <= 86_400 and 0 <= policy.breaker_wait_s <= 86_400 and policy.breaker_after >= 0
    assert 0 <= gate.max_errored_rate <= 1 and 0 <= gate.min_pass_rate <= 1 and 0 <= gate.min_operations_2xx <= 1
    assert gate.max_findings >= 0 and set(gate.ignore) <= CHECKS
    assert min(generate.max_cases, generate.max_cases_per_operation, generate.max_tokens, generate.promote_after) >= 0
    assert 0 <= generate.max_money < float("inf") and set(generate.sources) <= set(configuration.SOURCES)
    assert target.schedule is None or len(target.schedule.split()) in (1, 5)


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
    order, settings = RunConf(target="pets"), configuration.read({"TESTOPS_TARGETS_DIR": str(tmp_path)})
    assert resolve(order, settings, {"PETS_DAG": "feed"}).values == {"dag_id": ("feed", 7)}
    with pytest.raises(TargetError, match="PETS_DAG"):
        resolve(order, settings, {})


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


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        ("{ca: ca.pem}", "tls.ca is neither an absolute path"),
        ('{cert: "-----BEGIN CERTIFICATE-----"}', "tls.cert is neither an absolute path"),
        ("{key: /run/key.pem}", "tls has a key and no cert"),
        ("{cert: /run/cert.pem, pem: x}", "unknown field"),
    ],
)
def test_certificates_are_named_and_never_written_down(tmp_path: Path, tls: str, message: str) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(f"spec: openapi.json\nbase_url: https://a.example\ntls: {tls}\n")
    with pytest.raises(TargetError, match=message):
        targets.load(path)


def test_a_client_certificate_is_a_credential(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("spec: openapi.json\ntls: {cert: '${SHOP_CERT}', key: '${SHOP_KEY}'}\n")
    with pytest.raises(TargetError, match="no `base_url`"):
        targets.load(path)
    path.write_text("spec: a.json\nbase_url: https://a.example\ntls: {ca: /ca.pem, cert: '${C}', key: '${K}'}\n")
    target = targets.load(path)
    assert (target.tls.ca, target.tls.cert) == ("/ca.pem", "${C}")
    assert targets.references(target) == {"C", "K"}
