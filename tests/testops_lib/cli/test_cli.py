from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import yaml

from stack.samples import Sample
from tests import club_server, llm_server
from tests.command_line import cli, make_run
from tests.generation_specs import case, step
from tests.paths import ROOT

TRIGGER = ["trigger", "--url", "http://127.0.0.1:9", "--username", "a"]
DEFECTS = yaml.safe_load((ROOT / "examples/shop/defects.yaml").read_text("utf-8"))


def authorization(shop: Sample) -> str:
    return f"Authorization: Bearer {shop.variables()['TESTOPS_SHOP_ADMIN_TOKEN']}"


def try_shop(shop: Sample, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = ["--base-url", shop.url, "-H", authorization(shop), "--max-response-ms", "2500", "--out", str(out)]
    return cli("try", f"{shop.url}/openapi.json", *arguments, *more)


def test_every_seeded_defect_is_one_finding_and_nothing_else_is(defective_shop: Sample, tmp_path: Path) -> None:
    done = try_shop(defective_shop, tmp_path)
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "report.json").read_bytes())
    found = sorted((finding["operation"], finding["check"]) for finding in report["findings"])
    assert found == sorted((defect["operation"], defect["check"]) for defect in DEFECTS)
    assert len(DEFECTS) >= 15


def test_a_plain_users_token_finds_what_a_plain_user_reaches(defective_shop: Sample, tmp_path: Path) -> None:
    token = f"Authorization: Bearer {defective_shop.variables()['TESTOPS_SHOP_TOKEN']}"
    options = ["--base-url", defective_shop.url, "-H", token, "--max-response-ms", "2500", "--out", str(tmp_path)]
    done = cli("try", f"{defective_shop.url}/openapi.json", *options)
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "report.json").read_bytes())
    seeded = {(defect["operation"], defect["check"]) for defect in DEFECTS}
    found = {(one["operation"], one["check"]) for one in report["findings"] if not one["advisory"]}
    assert len(found) >= 18 and found <= seeded
    refused = {key: one.get("statuses", {}).get("403", 0) for key, one in report["operations"].items()}
    assert max(refused.values()) < 100 and refused["POST /categories"] < 30
    assert sum(reason.startswith("no right to create categories") for reason in report["errors"]) == 1


def test_a_sound_api_has_no_finding_and_every_operation_is_reached(sound_shop: Sample, tmp_path: Path) -> None:
    done = try_shop(sound_shop, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert report["findings"] == []
    without = [key for key, operation in report["operations"].items() if not operation.get("success_seen")]
    assert sorted(without) == ["DELETE /account", "POST /session/logout"]  # one token is all there is to lose
    assert all(report["operations"][key]["not_tested"] for key in without)


def test_no_credential_reaches_a_report(defective_shop: Sample, tmp_path: Path) -> None:
    done = try_shop(defective_shop, tmp_path, "--operations", "* /payments*", "--operations", "* /stock*")
    secret = authorization(defective_shop).rpartition(" ")[2]
    assert done.returncode == 1
    for text in (done.stdout, done.stderr, *(path.read_text("utf-8") for path in tmp_path.iterdir())):
        assert secret not in text


@pytest.mark.parametrize("most", [1, 7, 60])
def test_the_budget_of_requests_holds_exactly(sound_shop: Sample, tmp_path: Path, most: int) -> None:
    done = try_shop(sound_shop, tmp_path, "--max-requests", str(most))
    assert done.returncode in (0, 1), done.stderr
    requests = json.loads((tmp_path / "report.json").read_bytes())["totals"]["requests"]
    assert most - 4 <= requests <= most


def test_generate_execute_and_report_work_on_files(defective_shop: Sample, tmp_path: Path) -> None:
    cases, results = tmp_path / "cases.jsonl", tmp_path / "results.jsonl"
    made = cli("generate", "--spec", f"{defective_shop.url}/openapi.json", "--out", str(cases), "-o", "GET /categories")
    assert made.returncode == 0, made.stderr
    for form, ending in (("curl", ".sh"), ("pytest", ".py"), ("hurl", ".hurl"), ("k6", ".js")):
        more = ["--base-url", defective_shop.url, "--out", str(tmp_path / form)]
        exported = cli("export", str(cases), "--format", form, *more)
        assert exported.returncode == 0, exported.stderr
        assert {path.suffix for path in (tmp_path / form).iterdir()} == {ending}
    whole = ["--base-url", defective_shop.url, "--spec", f"{defective_shop.url}/openapi.json"]
    for form in ("postman", "arazzo"):
        exported = cli("export", str(cases), "--format", form, *whole, "--out", str(tmp_path / f"{form}.json"))
        assert exported.returncode == 0, exported.stderr
    assert json.loads((tmp_path / "arazzo.json").read_bytes())["workflows"][0]["steps"][0]["operationId"]
    token = authorization(defective_shop)
    ran = cli("execute", str(cases), "--base-url", defective_shop.url, "-H", token, "--out", str(results))
    assert ran.returncode == 1, ran.stderr
    assert token.rpartition(" ")[2] not in cases.read_text() + results.read_text()
    archive = cli("export", str(results), "--format", "har")
    assert json.loads(archive.stdout)["log"]["entries"] and token.rpartition(" ")[2] not in archive.stdout
    for form, start in (("json", "{"), ("junit", "<?xml"), ("html", "<!doctype html>"), ("wfc", "{")):
        told = cli("report", str(results), "--format", form)
        assert told.returncode == 1, told.stderr
        assert told.stdout.lower().startswith(start)
    found = json.loads(cli("report", str(results), "--format", "json").stdout)["findings"]
    assert [finding["check"] for finding in found] == ["response_headers_conformance"]


def test_a_file_that_cannot_be_used_is_answered_with_what_to_do(sound_shop: Sample, tmp_path: Path) -> None:
    cases, results, spec = tmp_path / "cases.jsonl", tmp_path / "results.jsonl", f"{sound_shop.url}/openapi.json"
    made = cli("generate", "--spec", spec, "--base-url", sound_shop.url, "--out", str(cases), "-o", "GET /categories")
    assert made.returncode == 0, made.stderr
    refused = cli("execute", str(cases), "--out", str(results))
    assert refused.returncode == 2 and "127.0.0.1 is a loopback or private address" in refused.stderr
    assert "must be given by --base-url" in refused.stderr and " errored" in refused.stdout
    ran = cli("execute", str(cases), "--base-url", sound_shop.url, "--out", str(results))
    assert ran.returncode == 0 and f"testops report {results}" in ran.stdout
    for file, form, writer in ((results, "curl", "generate"), (cases, "har", "execute")):
        told = cli("export", str(file), "--format", form)
        assert told.returncode == 2 and f"takes a file that `testops {writer}` wrote" in told.stderr
        assert "leave out --case" in cli("export", str(file), "--format", form, "--case", "0").stderr
    assert "--import FILE" in cli("try", spec, "--source", "import").stderr


KEY = "AIzaTestKeyTestKeyTestKeyTestKeyTestKey9"
BOTH = ("--source", "rules", "--source", "gemini")


@pytest.mark.parametrize(("source", "path"), [("gemini", ""), ("openai", "/v1")])
def test_a_models_cases_run_beside_the_rules_and_their_price_is_reported(
    sound_shop: Sample, tmp_path: Path, source: Literal["gemini", "openai"], path: str
) -> None:
    good = case("positive", step("GET /products", query={"limit": "3"}))
    invented = case("positive", step("GET /unicorns"))
    replies = [llm_server.cases(good, invented), llm_server.cases(invented)]
    with llm_server.ModelServer(replies, source) as model:
        done = cli(
            *("try", f"{sound_shop.url}/openapi.json", "--base-url", sound_shop.url),
            *("--source", "rules", "--source", source, "--operations", "GET /products", "--out", str(tmp_path)),
            **{f"{source.upper()}_API_KEY": KEY, f"{source.upper()}_BASE_URL": model.url + path},
        )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_bytes())
    rules, made = report["generation"]
    assert (rules["source"], made["source"], made["cases"]) == ("rules", source, 1)
    assert made["calls"] == 2 and made["input_tokens"] == 2000 and 0 < made["money"] < 0.01
    assert sum(made["dropped"].values()) == 1
    cost = report["costs"][source]
    assert (cost["input_tokens"], cost["money"], report["currency"]) == (2000, made["money"], "USD")
    assert report["operations"]["GET /products"]["cost"]["money"] == pytest.approx(made["money"])
    assert f"{source}: 2 calls, 2,460 tokens" in done.stdout and "no confirmed finding" in done.stdout


def test_a_token_limit_of_a_local_run_ends_generation_with_what_there_is(sound_shop: Sample, tmp_path: Path) -> None:
    good = case("positive", step("GET /products", query={"limit": "3"}))
    with llm_server.ModelServer(lambda r: llm_server.cases(good), "gemini") as model:
        for cap in (("--max-tokens", "100"), ("--max-money", "0.000001")):
            done = cli(
                *("generate", "--spec", f"{sound_shop.url}/openapi.json", *BOTH, *cap),
                *("--operations", "GET /products", "--out", str(tmp_path / "cases.jsonl")),
                GEMINI_API_KEY=KEY,
                GEMINI_BASE_URL=model.url,
            )
            assert done.returncode == 0, done.stderr
            assert "gemini: stopped at max_" in done.stderr
    assert model.received == []


def test_a_plan_says_calls_tokens_and_money_of_each_source_and_calls_nobody(sound_shop: Sample, tmp_path: Path) -> None:
    """Without a key, and with an address where nobody listens."""
    own = tmp_path / "prices.yaml"
    own.write_text("currency: EUR\nmodels: {gpt-5-mini: {input: 1, output: 2}}\n")
    done = cli(
        *("generate", "--spec", f"{sound_shop.url}/openapi.json", "--plan", *BOTH, "--source", "openai"),
        TESTOPS_PRICES_FILE=str(own),
        GEMINI_BASE_URL="http://127.0.0.1:9",
        OPENAI_BASE_URL="http://127.0.0.1:9",
    )
    assert done.returncode == 0, done.stderr
    rules, gemini, openai = done.stdout.splitlines()
    assert re.fullmatch(r"rules: \d+ operations, no call", rules)
    told = r"{} \({}\): \d+ operations, \d+ calls, about [\d,]+ tokens in and [\d,]+ out, {}; repairs .*"
    assert re.fullmatch(told.format("gemini", "gemini-2.5-flash", "price unknown"), gemini)
    assert re.fullmatch(told.format("openai", "gpt-5-mini", r"about 0\.\d+ EUR"), openai)
    assert cli("generate", "--spec", f"{sound_shop.url}/openapi.json").returncode == 2


def test_gemini_without_a_key_says_where_to_put_it(sound_shop: Sample) -> None:
    done = cli("try", f"{sound_shop.url}/openapi.json", "--base-url", sound_shop.url, *BOTH)
    assert done.returncode == 2 and "GEMINI_API_KEY" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["try", "missing.json"], "missing.json"),
        (["try", str(ROOT / "pyproject.toml")], "pyproject.toml"),
        (["try", "http://127.0.0.1:9/openapi.json"], "127.0.0.1"),
        (["try", str(ROOT / "tests/testops_lib/spec"), "--max-requests", "x"], "max-requests"),
        (
            ["execute", str(ROOT / "pyproject.toml"), "--base-url", "http://127.0.0.1:9", "--out", "x"],
            "pyproject.toml:1",
        ),
        (["collect", "--follow"], "TESTOPS_DSN"),
        ([*TRIGGER, "--target", "shop"], "TESTOPS_AIRFLOW_PASSWORD"),
        ([*TRIGGER, "--rerun", "r", "--target", "shop"], "leave out target"),
        ([*TRIGGER, "--param", "round=2"], "`round`"),
        ([*TRIGGER, "--param", "rounds=7"], "$.rounds"),
        ([*TRIGGER, "--param", "rounds"], "no NAME=VALUE"),
        (TRIGGER, "names neither a target nor a spec"),
    ],
)
def test_what_cannot_run_says_where_and_ends_with_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = cli(*arguments, cwd=tmp_path)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_operations_that_cannot_be_tested_are_all_in_the_report_with_the_reason(
    sound_shop: Sample, tmp_path: Path
) -> None:
    answers = {"responses": {"200": {"description": "fine"}}}
    impossible = {"type": "integer", "minimum": 5, "maximum": 1}
    wanted = {"name": "q", "in": "query", "required": True, "schema": impossible}
    broken = {"parameters": [{"$ref": "#/components/parameters/gone"}], **answers}
    paths = {f"/broken/{number}": {"get": broken} for number in range(30)}
    paths |= {"/impossible": {"get": {"parameters": [wanted], **answers}}, "/products": {"get": answers}}
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths}))
    base = ["--base-url", sound_shop.url]
    tried = cli("try", str(document), *base, "--out", str(tmp_path / "report"))
    cli("generate", "--spec", str(document), "--out", str(tmp_path / "cases.jsonl"))
    cli("execute", str(tmp_path / "cases.jsonl"), *base, "--out", str(tmp_path / "results.jsonl"))
    again, shown = tmp_path / "again.json", tmp_path / "again.txt"
    cli("report", str(tmp_path / "results.jsonl"), "--format", "json", "--out", str(again))
    cli("report", str(tmp_path / "results.jsonl"), "--out", str(shown))
    for path, text in ((tmp_path / "report" / "report.json", tried.stdout), (again, shown.read_text())):
        report = json.loads(path.read_text())
        reasons = {key: one["not_tested"] for key, one in report["operations"].items() if one.get("not_tested")}
        assert len(reasons) == report["totals"]["operations_not_tested"] == 31
        assert "no valid request" in reasons["GET /impossible"] and "gone" in reasons["GET /broken/29"]
        assert "1 of 32 operations answered a 2xx, 31 not tested" in text
    assert tried.stderr.count("not tested: GET /") == 20 and "11 more operations" in tried.stderr
    narrowed = cli(
        "try", str(document), *base, "-o", "GET /broken/2*", "-o", "GET /products", "--out", str(tmp_path / "few")
    )
    few = json.loads((tmp_path / "few" / "report.json").read_text())
    assert few["totals"]["operations_not_tested"] == 11, narrowed.stderr


def test_an_edited_case_that_keeps_its_id_is_refused_with_its_line(sound_shop: Sample, tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    assert (
        cli(
            "generate", "--spec", f"{sound_shop.url}/openapi.json", "-o", "GET /products", "--out", str(cases)
        ).returncode
        == 0
    )
    lines = cases.read_text().splitlines()
    number = next(at for at, line in enumerate(lines) if '"case"' in line)
    document = json.loads(lines[number])
    document["case"]["steps"][0]["request"]["path"] = "/categories"
    lines[number] = json.dumps(document)
    cases.write_text("\n".join(lines))
    execute = ["execute", str(cases), "--base-url", sound_shop.url, "--out", str(tmp_path / "results.jsonl")]
    ended = cli(*execute)
    assert ended.returncode == 2 and f"cases.jsonl:{number + 1}" in ended.stderr
    document["case"]["id"] = ended.stderr.rpartition('"id": "')[2].partition('"')[0]
    lines[number] = json.dumps(document)
    cases.write_text("\n".join(lines))
    assert cli("execute", str(cases), "--base-url", sound_shop.url, "--out", str(tmp_path / "r.jsonl")).returncode in (
        0,
        1,
    )


@pytest.mark.parametrize("credentials", [[], ["-H", "Authorization: Bearer t"], ["-Q", "key=t"]])
def test_make_runs_command_takes_its_options_as_far_as_the_document(credentials: list[str], tmp_path: Path) -> None:
    ended = make_run("--once", "--spec", str(tmp_path / "gone.json"), *credentials)
    assert ended.returncode == 2 and "there is no such file" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


class Guarded(BaseHTTPRequestHandler):
    """A document behind a login, of an API that needs another one."""

    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        answers = {"responses": {"200": {"description": "fine"}}}
        document = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/a": {"get": answers}}}
        allowed = self.path != "/openapi.json" or self.headers.get("Authorization") in ("Bearer spec", "Bearer api")
        body = json.dumps(document).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def test_credentials_of_the_api_go_to_the_documents_server_only_where_it_is_the_apis_own(sound_shop: Sample) -> None:
    Guarded.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    tried = ["try", f"{url}/openapi.json", "-H", "Authorization: Bearer api", "--max-requests", "3"]
    try:
        withheld = cli(*tried, "--base-url", sound_shop.url)
        assert withheld.returncode == 2 and "Authorization was withheld" in withheld.stderr
        assert "--spec-header" in withheld.stderr and Guarded.seen == [("/openapi.json", None)]
        given = cli(*tried, "--base-url", sound_shop.url, "--spec-header", "Authorization: Bearer spec")
        assert given.returncode in (0, 1) and Guarded.seen[1:] == [("/openapi.json", "Bearer spec")]
        own = cli(*tried, "--base-url", url)
        assert own.returncode in (0, 1) and Guarded.seen[2] == ("/openapi.json", "Bearer api")
    finally:
        server.shutdown()
        server.server_close()


HOSTILE = "\x1b[2J\x1b]0;owned\x07\n::error file=a::owned\n##vso[task.complete]owned\u202e"


def test_nothing_that_a_document_says_acts_on_the_terminal_or_the_ci_server(sound_shop: Sample, tmp_path: Path) -> None:
    link = {"operationRef": f"#/paths/{HOSTILE}", "description": HOSTILE}
    answer = {"description": HOSTILE, "links": {HOSTILE: link}}
    documented = {"summary": HOSTILE, "operationId": HOSTILE, "responses": {"200": answer}}
    broken = {"requestBody": {"$ref": f"#/components/requestBodies/{HOSTILE}"}, "responses": {"200": answer}}
    document = tmp_path / "openapi.json"
    paths = {f"/{HOSTILE}": {"get": documented}, f"/b/{HOSTILE}": {"post": broken}, "/products": {"get": documented}}
    document.write_text(
        json.dumps(
            {"openapi": "3.1.0", "info": {"title": HOSTILE, "version": HOSTILE}, "tags": [{"name": HOSTILE}]}
            | {"paths": paths}
        ),
        "utf-8",
    )
    base = ["--base-url", sound_shop.url]
    runs = [
        cli("try", str(document), *base, "--max-requests", "60", "--out", str(tmp_path / "report")),
        cli("generate", "--spec", str(document), "--out", str(tmp_path / "cases.jsonl")),
        cli("execute", str(tmp_path / "cases.jsonl"), *base, "--out", str(tmp_path / "results.jsonl")),
        cli("report", str(tmp_path / "results.jsonl")),
    ]
    for ended in runs:
        assert ended.returncode in (0, 1), ended.stderr
        for line in (ended.stdout + ended.stderr).splitlines():
            assert "\x1b" not in line and "\x07" not in line and "\u202e" not in line
            assert not line.lstrip().startswith("::") and "##vso[" not in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["try", "openapi.json"],
        ["generate", "--spec", "openapi.json", "--plan"],
        ["execute", "README.md", "--out", "results.jsonl"],
        ["trigger", "--target", "shop"],
        ["export", "README.md", "--format", "curl"],
    ],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_a_password_in_a_base_url_is_refused_and_never_printed(arguments: list[str], scheme: str) -> None:
    ended = cli(*arguments, "--base-url", f"{scheme}://ann:hunter2@127.0.0.1:1", cwd=ROOT)
    assert ended.returncode == 2 and "--base-url" in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_make_run_refuses_a_password_in_a_base_url_and_never_prints_it(scheme: str) -> None:
    ended = make_run("--base-url", f"{scheme}://ann:hunter2@127.0.0.1:1")
    assert ended.returncode == 2 and "--base-url" in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr


def test_a_target_that_is_down_could_not_be_tested(sound_shop: Sample, tmp_path: Path) -> None:
    done = cli("try", f"{sound_shop.url}/openapi.json", "--base-url", "http://127.0.0.1:9", "--max-requests", "30")
    assert done.returncode == 2
    assert "nothing could be tested" in done.stderr and "Traceback" not in done.stderr


KEYED = {
    "openapi": "3.0.3",
    "info": {"title": "keyed", "version": "1"},
    "paths": {
        path: {
            "get": {"security": [{"key": []}], "responses": {"200": {"description": ""}, "401": {"description": ""}}}
        }
        for path in ("/a", "/b", "/c")
    },
    "components": {"securitySchemes": {"key": {"type": "apiKey", "in": "query", "name": "api_key"}}},
}


class Keyed(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if "api_key=k3y-of-the-query" in self.path else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def test_an_api_that_lets_nobody_in_says_what_to_give_and_the_query_may_hold_it(tmp_path: Path) -> None:
    spec = tmp_path / "keyed.json"
    spec.write_text(json.dumps(KEYED))
    with ThreadingHTTPServer(("127.0.0.1", 0), Keyed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        arguments = ["try", str(spec), "--safe", "--base-url", f"http://127.0.0.1:{server.server_port}"]
        shut = cli(*arguments)
        key = ["-Q", "api_key=k3y-of-the-query", "--out", str(tmp_path / "out")]
        let_in = cli(*arguments, *key)
        server.shutdown()
    assert shut.returncode == 2, shut.stdout + shut.stderr
    assert "No findings." in shut.stdout
    assert "401 for valid requests: give credentials: -H, -Q or --auth" in shut.stderr.splitlines()[-1]
    assert let_in.returncode == 0, let_in.stdout + let_in.stderr
    assert "3 of 3 operations answered a 2xx" in let_in.stdout
    for text in (let_in.stdout, let_in.stderr, *(path.read_text("utf-8") for path in (tmp_path / "out").iterdir())):
        assert "k3y-of-the-query" not in text


class Elsewhere(BaseHTTPRequestHandler):
    """A server that is not the API: what it answers depends on the first segment of the path alone."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        self.send_response({"gone": 404, "moved": 301}.get(kind, 200))
        self.send_header("Content-Type", "text/html")
        self.send_header("Location", "/login")
        self.send_header("Content-Length", "6")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"<html>")

    def __getattr__(self, name: str) -> object:
        if name.startswith("do_"):
            return self.do_GET
        raise AttributeError(name)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.parametrize(
    ("path", "cause"), [("gone", "404 to everything"), ("moved", "a redirect to"), ("pages", "an HTML page to")]
)
def test_a_wrong_base_url_is_said_on_the_last_line_and_is_no_finding(
    sound_shop: Sample, tmp_path: Path, path: str, cause: str
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}/{path}"
        limits = ("--max-cases", "200", "--out", str(tmp_path))
        done = cli("try", f"{sound_shop.url}/openapi.json", "--base-url", base, *limits)
        server.shutdown()
    findings = json.loads((tmp_path / "report.json").read_bytes())["findings"]
    assert findings == [], [(one["operation"], one["check"], one["message"]) for one in findings]
    assert done.returncode == 2 and cause in done.stderr.splitlines()[-1]


def test_interrupting_cleans_up_and_still_reports(sound_shop: Sample, tmp_path: Path) -> None:
    arguments = [
        "--base-url",
        sound_shop.url,
        "-H",
        authorization(sound_shop),
        "--rate",
        "20",
        "--max-cases",
        "80",
        "--out",
        str(tmp_path),
    ]
    command = [sys.executable, "-m", "testops_lib.cli", "try", f"{sound_shop.url}/openapi.json", *arguments]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    while "/" not in (line := process.stderr.readline()) or "cases, " not in line:
        assert line, "it ended by itself"
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=20)[1]
    assert process.returncode == 2 and "stopped: " in told and "Traceback" not in told
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert report["totals"]["results"]["passed"] > 0


def reached(report: Path) -> set[str]:
    operations = json.loads(report.read_bytes())["operations"]
    return {key for key, operation in operations.items() if operation.get("success_seen")}


def test_a_further_round_reaches_what_the_answers_of_the_first_tell(tmp_path: Path) -> None:
    with club_server.serving() as url:
        first = cli("try", f"{url}/openapi.json", "--base-url", url, "--out", str(tmp_path / "one"))
        more = cli("try", f"{url}/openapi.json", "--base-url", url, "--out", str(tmp_path / "two"), "--rounds", "3")
    assert reached(tmp_path / "one" / "report.json") == {"GET /teams"}, first.stderr
    assert reached(tmp_path / "two" / "report.json") == {"GET /teams", "GET /members/{member_handle}", "GET /ledger"}
    assert "round 1: " in more.stderr and "round 3: " not in more.stderr, "it ends when nothing is left to gain"


def test_the_budget_of_requests_holds_over_all_rounds(tmp_path: Path) -> None:
    with club_server.serving() as url:
        limits = ("--rounds", "3", "--max-requests", "45", "--out", str(tmp_path))
        cli("try", f"{url}/openapi.json", "--base-url", url, *limits)
    assert json.loads((tmp_path / "report.json").read_bytes())["totals"]["requests"] <= 45


def test_the_same_cases_on_two_servers_show_what_changed(
    sound_shop: Sample, defective_shop: Sample, tmp_path: Path
) -> None:
    cases = tmp_path / "cases.jsonl"
    scope = ("-o", "* /categories*", "-o", "* /warehouses*")
    made = cli("generate", "--spec", f"{sound_shop.url}/openapi.json", "--out", str(cases), *scope)
    assert made.returncode == 0, made.stderr
    for name, shop in (("before", sound_shop), ("again", sound_shop), ("after", defective_shop)):
        options = ("--base-url", shop.url, "-H", authorization(shop), "--observe")
        cli("execute", str(cases), *options, "--out", str(tmp_path / f"{name}.jsonl"))
    same = cli("diff", str(tmp_path / "before.jsonl"), str(tmp_path / "again.jsonl"))
    assert same.returncode == 0, same.stdout
    changed = cli("diff", str(tmp_path / "before.jsonl"), str(tmp_path / "after.jsonl"), "--out", str(tmp_path / "out"))
    assert changed.returncode == 1, changed.stdout + changed.stderr
    findings = json.loads((tmp_path / "out" / "report.json").read_bytes())["findings"]
    seeded = {defect["operation"] for defect in DEFECTS}
    firm = {finding["operation"] for finding in findings if not finding["advisory"]}
    assert {"GET /categories", "POST /warehouses"} <= firm <= seeded, "what else differs follows from these"
