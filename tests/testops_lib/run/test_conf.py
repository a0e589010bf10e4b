from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from testops_lib import spec as specs
from testops_lib.errors import SettingsError, TargetError, TestOpsError
from testops_lib.generate.sources import SpendingLimits, spending_limits
from testops_lib.model import BasicAuth, Cost, Identity, Login
from testops_lib.run.conf import parse_conf, permit, resolve
from testops_lib.settings import Settings, read
from testops_lib.target import Credentials, Generate, RunConf, Target, expand, find, with_references

ENVIRON = {"TESTOPS_DSN": "postgresql://u:hunter2@h/d", "PETS_URL": "https://pets.example.com/api"}
PETS = """
spec: ${PETS_URL}/openapi.json
base_url: ${PETS_URL}
policy: {hosts: ['staging.example.com:8443']}
auth:
  - name: user
    fixedHeaders: [{name: Authorization, value: "Bearer ${PETS_TOKEN}"}]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "pets.yaml").write_text(PETS)
    return Settings(targets_dir=tmp_path, specs_dir=tmp_path)


def test_a_target_file_is_expanded(settings: Settings) -> None:
    target = resolve(RunConf(target="pets"), settings, ENVIRON)
    assert (target.spec, target.base_url) == (
        "https://pets.example.com/api/openapi.json",
        "https://pets.example.com/api",
    )


@pytest.mark.parametrize(
    "order",
    [
        RunConf(spec="http://evil.example/${TESTOPS_DSN}"),
        RunConf(spec="http://a.example/openapi.json", base_url="http://evil.example/${TESTOPS_DSN}"),
        RunConf(target="pets", spec="http://evil.example/${TESTOPS_DSN}"),
        RunConf(target="pets", base_url="https://pets.example.com/${TESTOPS_DSN}"),
    ],
)
def test_an_order_reads_nothing_from_the_environment(order: RunConf, settings: Settings) -> None:
    target = resolve(order, settings, ENVIRON)
    assert "hunter2" not in repr(target)


@pytest.mark.parametrize(
    "order",
    [
        RunConf(target="pets", base_url="https://evil.example"),
        RunConf(target="pets", base_url="http://pets.example.com/api"),
        RunConf(target="pets", base_url="https://pets.example.com@evil.example/api"),
        RunConf(target="pets", base_url="nonsense"),
        RunConf(target="pets", base_url="https://staging.example.com"),
    ],
)
def test_an_order_takes_no_credentials_elsewhere(order: RunConf, settings: Settings) -> None:
    with pytest.raises(TargetError, match="credentials"):
        resolve(order, settings, ENVIRON)


def test_without_a_base_url_in_its_file_a_target_keeps_its_credentials_from_another_document(
    settings: Settings,
) -> None:
    (settings.targets_dir / "pets.yaml").write_text(PETS.replace("base_url: ${PETS_URL}\n", ""))
    with pytest.raises(TargetError, match="credentials"):
        resolve(RunConf(target="pets", spec="https://evil.example/openapi.json"), settings, ENVIRON)


@pytest.mark.parametrize("base_url", ["https://pets.example.com/next", "https://staging.example.com:8443/api"])
def test_an_order_may_go_where_the_target_file_lets_it(base_url: str, settings: Settings) -> None:
    assert resolve(RunConf(target="pets", base_url=base_url), settings, ENVIRON).base_url == base_url


def test_another_document_is_no_target() -> None:
    order = parse_conf({"target": "other-document", "spec": "openapi.yaml", "base_url": None})
    assert order == RunConf(spec="openapi.yaml")
    with pytest.raises(SettingsError, match="neither a target nor a spec"):
        parse_conf({"target": "other-document", "spec": ""})


TARGET, DOCUMENT, ELSEWHERE, HOME = (
    RunConf(target="pets"),
    RunConf(spec="https://a.example/openapi.json"),
    RunConf(target="pets", base_url="https://elsewhere.example"),
    RunConf(target="pets", base_url="https://pets.example.com/next"),
)
PRIVATE = RunConf(spec="https://a.example/openapi.json", allow_private=True)
INSIDE = RunConf(target="inside", base_url="http://10.0.0.9")


@pytest.mark.parametrize(
    ("adhoc", "permitted"),
    [
        ("off", [TARGET, HOME]),
        ("public", [TARGET, HOME, DOCUMENT, ELSEWHERE]),
        ("private", [TARGET, HOME, DOCUMENT, ELSEWHERE, PRIVATE, INSIDE]),
    ],
)
def test_the_operator_says_what_may_be_ordered_besides_targets(
    adhoc: str, permitted: list[RunConf], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PETS_URL", ENVIRON["PETS_URL"])
    inside = "spec: https://h/openapi.json\nbase_url: http://10.0.0.1\npolicy: {allow_private: true}\n"
    (settings.targets_dir / "inside.yaml").write_text(inside)
    chosen = msgspec.structs.replace(settings, adhoc=adhoc)

    def is_permitted(order: RunConf) -> bool:
        described = find(settings.targets_dir, order.target) if order.target else Target(spec=order.spec)
        try:
            permit(order, described, chosen)
        except SettingsError as refused:
            assert "TESTOPS_ADHOC" in str(refused)
            return False
        return True

    orders = [TARGET, HOME, DOCUMENT, ELSEWHERE, PRIVATE, INSIDE]
    assert [order for order in orders if is_permitted(order)] == permitted
    assert Settings().adhoc == "off"


@pytest.mark.parametrize(
    ("line", "allowed", "refused"),
    [
        ("", "", ""),
        ("values: {dsn: ['${TESTOPS_DSN}']}", "", "TESTOPS_DSN"),
        ("values: {key: ['${AIRFLOW__CORE__FERNET_KEY}']}", "", "AIRFLOW__CORE__FERNET_KEY"),
        ("notify: {webhook: '${GEMINI_API_KEY}'}", "", "GEMINI_API_KEY"),
        ("", "PETS_*", ""),
        ("", "PETS_URL, CONN_PETS_*", "PETS_TOKEN"),
        ("values: {dsn: ['${TESTOPS_DSN}']}", "PETS_* TESTOPS_DSN", ""),
    ],
)
def test_a_target_file_refers_only_to_variables_that_it_may(
    line: str, allowed: str, refused: str, settings: Settings
) -> None:
    (settings.targets_dir / "pets.yaml").write_text(f"{PETS}{line}\n")
    own = {"TESTOPS_TARGETS_DIR": str(settings.targets_dir), "TESTOPS_TARGET_VARIABLES": allowed}
    if refused:
        with pytest.raises(TargetError, match=f"pets: may not refer to .*{refused}"):
            resolve(TARGET, read(own), ENVIRON)
    else:
        assert resolve(TARGET, read(own), ENVIRON).name == "pets"


@pytest.mark.parametrize(
    "spec", ["/etc/passwd", "../secrets.yaml", "a/../../b.yaml", "file:///etc/passwd", "a://../../secrets.yaml"]
)
def test_a_document_outside_the_directory_is_not_read(spec: str, settings: Settings) -> None:
    with pytest.raises(TestOpsError):
        specs.load(resolve(RunConf(spec=spec), settings, ENVIRON).spec)


@pytest.mark.parametrize(
    ("own", "ordered", "holds"), [(0, 0, 0), (900, 0, 900), (0, 500, 500), (900, 500, 500), (400, 500, 400)]
)
def test_an_order_narrows_what_models_may_take_and_never_widens_it(
    settings: Settings, own: int, ordered: int, holds: int
) -> None:
    (settings.targets_dir / "dear.yaml").write_text(
        f"spec: https://a.example/o.json\ngenerate: {{max_tokens: {own}, max_money: {own / 100}}}\n"
    )
    wishes = resolve(RunConf(target="dear", max_tokens=ordered, max_money=ordered / 100), settings, ENVIRON).generate
    assert (wishes.max_tokens, wishes.max_money) == (holds, holds / 100)


def test_a_part_of_a_run_has_its_part_of_what_the_run_may_take() -> None:
    def target(**wishes: float) -> Target:
        return Target(spec="s", generate=Generate(**wishes))  # type: ignore[arg-type]

    assert spending_limits(target()) == SpendingLimits()
    assert spending_limits(target(max_tokens=1000, max_money=2.0), part=0.25) == SpendingLimits(tokens=250, money=0.5)
    before = Cost(input_tokens=600, output_tokens=300, money=1.5)
    monthly = target(max_tokens=1000, max_tokens_per_month=1000, max_money_per_month=2.0)
    assert spending_limits(monthly, spent=before) == SpendingLimits(tokens=100, money=0.5)
    assert spending_limits(monthly, spent=Cost(input_tokens=5000, money=9.0)) == SpendingLimits(tokens=0, money=0)
    assert spending_limits(monthly, spent=Cost(input_tokens=5, money=None)) == SpendingLimits(tokens=995, money=2.0)


def test_credentials_of_an_ad_hoc_order_stay_at_their_base_url_and_are_references(tmp_path: Path) -> None:
    users = (
        Identity(name="ann", headers=(("X-Key", "s3cret-1"),), basic=BasicAuth(username="ann", password="s3cret-2")),
        Identity(name="bob", query=(("key", "${KNOWN}"),), login=Login(url="/login", payload="pw=s3cret-3")),
    )
    replaced, secrets = with_references(users, "ADHOC")
    assert sorted(secrets.values()) == ["pw=s3cret-3", "s3cret-1", "s3cret-2"]
    given = msgspec.json.encode(Credentials(base_url="http://127.0.0.1:8000/api", identities=replaced)).decode()
    assert "s3cret" not in given
    settings = Settings(targets_dir=tmp_path, specs_dir=tmp_path, adhoc="private", adhoc_auth=given)
    (tmp_path / "a.yaml").touch()
    spec = str(tmp_path / "a.yaml")
    own = resolve(RunConf(spec=spec, base_url="http://127.0.0.1:8000/api"), settings, {})
    assert [user.name for user in own.identities] == ["ann", "bob"]
    assert expand(own.identities[0].headers[0][1], secrets) == "s3cret-1"
    assert own.identities[1].query == (("key", "${KNOWN}"),)
    for elsewhere in ("http://127.0.0.1:9000/api", "http://evil.example", ""):
        assert resolve(RunConf(spec=spec, base_url=elsewhere), settings, {}).identities == ()
