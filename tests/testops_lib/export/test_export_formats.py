"""Hurl, k6, Postman, Arazzo and HAR: what is written is valid, says what the case says, and nothing gets out of it."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs
from test_export import HOSTILE, STATEFUL, _Pets, case, hostile_case, pets, step

from bench.tools import NEEDS, find
from testops_lib.export import arazzo, curl_case, har, hurl, k6, postman, pytest_source
from testops_lib.export.text import places
from testops_lib.model import (
    BytesBody,
    Case,
    FormBody,
    JsonBody,
    JsonPathIs,
    MultipartBody,
    Part,
    RequestEvidence,
    ResponseEvidence,
    Result,
    StatusIs,
    StepOutcome,
    TextBody,
)
from tests.paths import DATA

NEWMAN, K6, HURL = (f"python -m bench.tools {name} ({NEEDS[name]})" for name in ("newman", "k6", "hurl"))

__all__ = ["pets"]


def tool(name: str, how: str) -> str:
    """A program of others, or a skip that says how to get it."""
    executable = os.environ.get(f"TESTOPS_{name.upper()}") or (find(name) if name in NEEDS else shutil.which(name))
    if not executable:
        pytest.skip(f"needs {name}: {how}")
    return str(Path(executable).absolute())


# ------------------------------------------------------------------------ paths


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", []),
        ("$.a.b", ["a", "b"]),
        ("$[0]['x y'].z", [0, "x y", "z"]),
        ("$['it\\'s']['\\\\']", ["it's", "\\"]),
        ("$.a[*]", None),
        ("$..a", None),
        ("$[?@.a]", None),
        ("$[-1]", None),
        ("a", None),
        ("", None),
    ],
)
def test_only_paths_to_one_place_have_places(path: str, found: list[str | int] | None) -> None:
    assert places(path) == found


# ------------------------------------------------------------------------ k6 and Postman

RUN_IN_NODE = r"""
const fs = require("fs"), http = require("http"), vm = require("vm");
const source = fs.readFileSync(process.argv[2], "utf8").replace(/^import .*$/gm, "").replace("export const", "const")
  .replace("export default function ()", "globalThis.main = function ()");
const sent = [];
const script = new vm.Script(source);
const context = {
  JSON, Object, Math, Array, encodeURIComponent, console, __ENV: {},
  encoding: { b64decode: (text) => Buffer.from(text, "base64").toString("latin1") },
  check: (answer, tests) => { for (const [name, test] of Object.entries(tests)) checked.push([name, test(answer)]);
    return Object.values(tests).every((test) => test(answer)); },
  http: { request: (method, url, body, options) => {
    sent.push({ method, url, body, headers: options.headers });
    return { status: method === "POST" ? 201 : 200, headers: { ETag: "v1" }, timings: { duration: 1 },
      json: () => ({ id: 7, name: "Rex" }) };
  } },
};
const checked = [];
context.globalThis = context;
vm.createContext(context);
script.runInContext(context);
context.main();
console.log(JSON.stringify({ sent, checked }));
"""


def in_node(source: str, tmp_path: Path) -> Any:
    """What the script sends and checks, executed by Node.js with a stand-in for k6's own modules."""
    node = tool("node", "apt-get install nodejs")
    (tmp_path / "case.js").write_text(source, "utf-8")
    (tmp_path / "run.js").write_text(RUN_IN_NODE, "utf-8")
    done = subprocess.run([node, "run.js", "case.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_k6_script_does_what_the_case_does(tmp_path: Path) -> None:
    written = in_node(k6(STATEFUL, "http://h/api/"), tmp_path)
    post, get, delete = written["sent"]
    assert (post["method"], post["url"]) == ("POST", "http://h/api/pets")
    assert re.fullmatch(r"Rex [0-9a-f]{12}", json.loads(post["body"])["name"])
    assert (get["url"], get["headers"]) == ("http://h/api/pets/7?full=true&full=7", {"If-Match": "v1"})
    assert (delete["method"], delete["url"]) == ("DELETE", "http://h/api/pets/7")
    assert all(good for _, good in written["checked"]) and len(written["checked"]) == 4


def test_a_k6_script_fails_where_the_case_fails(tmp_path: Path) -> None:
    made = case(
        step("GET", "/pets", checks=(JsonPathIs(path="$.name", op="equals", value="Max"), StatusIs(any_of=(9,))))
    )
    assert [good for _, good in in_node(k6(made, "http://h"), tmp_path)["checked"]] == [False, False]


def test_hostile_strings_stay_data_in_k6(tmp_path: Path) -> None:
    source = k6(hostile_case(), "http://h")
    assert len([line for line in source.split("\n") if line.startswith("const CASE = ")]) == 1
    sent = in_node(source, tmp_path)["sent"]
    assert {one["method"] for one in sent} == {HOSTILE}
    assert json.loads(sent[0]["body"]) == {"a": [1, None, True, HOSTILE]}


def test_k6_itself_runs_the_script(tmp_path: Path, pets: str) -> None:
    (tmp_path / "case.js").write_text(k6(STATEFUL, pets), "utf-8")
    done = subprocess.run(
        [tool("k6", K6), "run", "--quiet", "case.js"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [seen[:2] for seen in _Pets.seen] == [
        ("POST", "/pets"),
        ("GET", "/pets/7?full=true&full=7"),
        ("DELETE", "/pets/7"),
    ]


def test_a_postman_collection_has_a_folder_a_case_and_a_request_a_step() -> None:
    made = json.loads(postman([STATEFUL, hostile_case()], "http://h/api/", name="Pets"))
    assert made["info"]["schema"].endswith("/v2.1.0/collection.json")
    assert made["variable"][0] == {"key": "base_url", "value": "http://h/api"}
    plain, hostile = made["item"]
    post, get, delete = plain["item"]
    assert post["request"]["url"] == "{{base_url}}/pets"
    assert json.loads(post["request"]["body"]["raw"])["name"] == "Rex {{unique}}"
    assert get["request"]["url"] == "{{base_url}}/pets/{{id}}?full=true&full={{id}}"
    assert {"key": "If-Match", "value": "{{tag}}"} in get["request"]["header"]
    assert [entry["key"] for entry in get["request"]["header"]] == ["If-Match"], "as none: no credentials"
    assert delete["name"].endswith("(cleanup)")
    for item in hostile["item"]:
        (script,) = [entry["script"]["exec"] for entry in item["event"] if entry["listen"] == "test"]
        assert script[0].startswith("const STEP = {") and HOSTILE not in "\n".join(script[1:])


def test_newman_runs_the_collection(tmp_path: Path, pets: str) -> None:
    newman = tool("newman", NEWMAN)
    (tmp_path / "pets.json").write_bytes(postman([STATEFUL], pets, name="Pets"))
    done = subprocess.run(
        [newman, "run", "pets.json", "--disable-unicode"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout
    assert [seen[1] for seen in _Pets.seen] == ["/pets", "/pets/7?full=true&full=7", "/pets/7"]


# ------------------------------------------------------------------------ uploads

UPLOAD = MultipartBody(
    parts=(
        Part(name="note", data=b"a; type=b, @c"),
        Part(name="picture", data=b'@not "a" file; \\', filename="cat one.png", media_type="image/png"),
        Part(name="table", data=b"a,b\n1,2", filename='a;"b.csv', media_type="text/csv"),
    )
)


def run_upload(form: str, upload: Case, base_url: str, folder: Path) -> list[str]:
    """Writes the case in the form; gives the command that runs it."""
    match form:
        case "curl":
            (folder / "case.sh").write_text(curl_case(upload, base_url), "utf-8")
            return [tool("bash", "apt-get install bash"), "case.sh"]
        case "pytest":
            (folder / "test_case.py").write_text(pytest_source(upload, base_url), "utf-8")
            return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_case.py"]
        case "newman":
            (folder / "case.json").write_bytes(postman([upload], base_url, name="uploads"))
            return [tool("newman", NEWMAN), "run", "case.json", "--disable-unicode"]
        case "k6":
            (folder / "case.js").write_text(k6(upload, base_url), "utf-8")
            return [tool("k6", K6), "run", "--quiet", "case.js"]
    (folder / "case.hurl").write_text(hurl(upload), "utf-8")
    variables = [f"--variable={entry}" for entry in (f"base_url={base_url}", "unique=0123456789ab", "authorization=x")]
    return [tool("hurl", HURL), *variables, "case.hurl"]


@pytest.mark.parametrize("form", ["curl", "pytest", "newman", "k6", "hurl"])
def test_an_upload_keeps_names_of_files_and_media_types(form: str, tmp_path: Path, pets: str) -> None:
    upload = case(step("POST", "/pets", UPLOAD, checks=(StatusIs(any_of=(201,)),)))
    command = run_upload(form, upload, pets, tmp_path)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (seen,) = _Pets.seen
    content_type = next(value for name, value in seen[2].items() if name.lower() == "content-type")
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + seen[3])
    received = [
        (part.get_param("name", header="content-disposition"), part.get_payload(decode=True)) for part in message.walk()
    ][1:]
    assert received == [(part.name, part.data) for part in UPLOAD.parts]
    for part, expected in zip(list(message.walk())[1:], UPLOAD.parts, strict=True):
        assert bool(part.get_filename()) == bool(expected.filename)
        assert part.get_content_type() == (expected.media_type or "text/plain")
    assert [part.get_filename() for part in message.walk()][2] == "cat one.png"


# ------------------------------------------------------------------------ Hurl


def test_a_hurl_file_says_what_the_case_says() -> None:
    assert hurl(STATEFUL).splitlines() == [
        "# create and read",
        "",
        "# POST /pets",
        "POST {{base_url}}/pets",
        "Authorization: {{authorization}}",
        "Content-Type: application/json",
        '{"name": "Rex {{unique}}", "age": 3}',
        "HTTP *",
        "[Captures]",
        'id: jsonpath "$.id"',
        'tag: header "ETag"',
        "[Asserts]",
        "status toString matches /^(201)$/",
        "",
        "# GET /pets/{id}",
        "GET {{base_url}}/pets/{{id}}?full=true&full={{id}}",
        "If-Match: {{tag}}",
        "HTTP *",
        "[Asserts]",
        "status < 500",
        'jsonpath "$.id" == {{id}}',
        'header "ETag" == {{tag}}',
        "",
        "# cleanup",
        "# DELETE /pets/{id}",
        "DELETE {{base_url}}/pets/{{id}}",
        "Authorization: {{authorization}}",
        "HTTP *",
    ]


BODIES = [
    JsonBody(value={"a": [1, None, True, HOSTILE], "{unique}": "{unique}"}),
    TextBody(text=HOSTILE),
    BytesBody(data=b"\xff\0'\""),
    FormBody(fields=((HOSTILE, HOSTILE), ("b", ""))),
    MultipartBody(parts=(Part(name="part", data=b"x"),)),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_hurl_takes_every_body(body: Any, tmp_path: Path, pets: str) -> None:
    program = tool("hurl", HURL)
    pairs = (("x", HOSTILE.replace("\n", "")),)
    (tmp_path / "case.hurl").write_text(hurl(case(step("POST", "/pets", body, query=pairs, headers=pairs))), "utf-8")
    variables = [
        f"--variable={entry}" for entry in (f"base_url={pets}", "unique=0123456789ab", "authorization=Bearer t")
    ]
    done = subprocess.run([program, *variables, "case.hurl"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (seen,) = _Pets.seen
    if isinstance(body, JsonBody):
        assert json.loads(seen[3]) == {"a": [1, None, True, HOSTILE], "{unique}": "0123456789ab"}
    elif isinstance(body, TextBody | BytesBody):
        assert seen[3] == (body.data if isinstance(body, BytesBody) else body.text.encode())


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60), st.text(max_size=20))
@example("{{base_url}}\nGET http://elsewhere", "a:\n[Asserts]")
@example("# x\r\n\r\nGET http://elsewhere", "{unique}")
def test_no_text_begins_a_request_of_its_own(value: str, name: str) -> None:
    made = case(step("POST", "/a", TextBody(text=value), headers=(("X-A", value),), query=((name, value),)), name=value)
    lines = hurl(made).splitlines()
    assert [line for line in lines if re.match(r"[A-Z]+ \{\{base_url\}\}", line)] == [lines[3]]
    assert [line for line in lines if line.startswith(("GET", "[", "HTTP"))] == ["HTTP *"]


# ------------------------------------------------------------------------ Arazzo


def valid_arazzo(document: Any) -> list[str]:
    schema = yaml.safe_load((DATA / "arazzo-1.0.schema.yaml").read_text("utf-8"))
    validator = jsonschema_rs.validator_for(schema)
    return [f"{list(error.instance_path)}: {error.message}" for error in validator.iter_errors(document)]


def test_an_arazzo_description_is_valid_and_refers_to_what_earlier_steps_kept() -> None:
    first, second = STATEFUL.steps
    plain = structs.replace(second, identity="", request=structs.replace(second.request, query=(("full", "true"),)))
    made = case(first, structs.replace(plain, operation="GET /pets/{pet_id}"), cleanup=STATEFUL.cleanup)
    written = arazzo([made], "https://h/openapi.json", title="Pets", operation_ids={"POST /pets": "createPet"})
    assert written.left_out == {} and valid_arazzo(written.document) == []
    create, read, remove = written.document["workflows"][0]["steps"]
    assert create["operationId"] == "createPet"
    assert create["requestBody"]["payload"] == {"name": "Rex {$inputs.unique}", "age": 3}
    assert create["outputs"] == {"id": "$response.body#/id", "tag": "$response.header.ETag"}
    assert read["operationPath"] == "{$sourceDescriptions.api.url}#/paths/~1pets~1{pet_id}/get"
    assert read["parameters"][0] == {"name": "pet_id", "in": "path", "value": "$steps.step1.outputs.id"}
    assert {"condition": "$response.body#/id == $steps.step1.outputs.id"} in read["successCriteria"]
    assert remove["parameters"] == [{"name": "id", "in": "path", "value": "$steps.step1.outputs.id"}]


def test_what_arazzo_cannot_say_is_left_out_with_its_reason() -> None:
    written = arazzo([STATEFUL, hostile_case()], "x", title="t")
    assert written.document["workflows"] == []
    assert written.left_out[STATEFUL.id] == "it speaks as none"
    assert set(written.left_out) == {STATEFUL.id, hostile_case().id}


@pytest.mark.parametrize("value", ["$inputs.unique", "$url", "$steps.x.outputs.y"])
def test_data_never_becomes_a_runtime_expression(value: str) -> None:
    written = arazzo([case(step("POST", "/pets", JsonBody(value={"a": [value]})))], "x", title="t")
    assert written.document["workflows"] == [] and len(written.left_out) == 1


# ------------------------------------------------------------------------ HAR


def test_an_archive_holds_every_exchange_with_evidence_as_it_was_redacted() -> None:
    request = RequestEvidence(
        method="POST",
        url="http://h/a?b=c&d=",
        headers=(("Authorization", "[redacted]"), ("Content-Type", "application/json")),
        body='{"x": 1}',
        body_bytes=8,
    )
    response = ResponseEvidence(status=500, headers=(("Location", "/x"),), body="oops", body_bytes=4)
    steps = (
        StepOutcome(operation="POST /a", status=500, elapsed_ms=12.5, request=request, response=response),
        StepOutcome(operation="GET /a", error="timeout", request=request),
        StepOutcome(operation="GET /b", status=200),
    )
    results = [
        Result(run="r", case="c", case_name="creates", verdict="failed", steps=steps),
        Result(run="r", case="d", verdict="passed", steps=steps[2:]),
    ]
    log = json.loads(har(results))["log"]
    assert log["version"] == "1.2" and [page["title"] for page in log["pages"]] == ["failed: creates"]
    first, second = log["entries"]
    assert (first["request"]["method"], first["response"]["status"], first["time"]) == ("POST", 500, 12.5)
    assert first["request"]["queryString"] == [{"name": "b", "value": "c"}, {"name": "d", "value": ""}]
    assert first["request"]["postData"] == {"mimeType": "application/json", "text": '{"x": 1}'}
    assert {"name": "Authorization", "value": "[redacted]"} in first["request"]["headers"]
    assert first["response"]["redirectURL"] == "/x"
    assert (second["response"]["status"], second["response"]["comment"]) == (0, "timeout")


def test_cases_of_every_kind_are_written_in_every_form(tmp_path: Path) -> None:
    made: list[Case] = [case(step("POST", "/pets", body)) for body in BODIES]
    for one in made:
        assert hurl(one) and k6(one, "http://h")
    assert json.loads(postman(made, "http://h", name="x"))["item"]
    assert valid_arazzo(arazzo(made, "x", title="t").document) == []


def test_an_empty_query_value_is_in_every_form(tmp_path: Path, pets: str) -> None:
    made = case(step("GET", "/pets", query=(("q", ""), ("full", "true"))))
    subprocess.run(["bash", "-c", curl_case(made, pets)], check=True, capture_output=True)
    (tmp_path / "test_case.py").write_text(pytest_source(made, pets))
    pytest_line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_case.py"]
    subprocess.run(pytest_line, cwd=tmp_path, check=True, capture_output=True)
    assert [seen[1] for seen in _Pets.seen] == ["/pets?q=&full=true"] * 2
    assert "GET {{base_url}}/pets?q=&full=true" in hurl(made)
    assert in_node(k6(made, pets), tmp_path)["sent"][0]["url"] == f"{pets}/pets?q=&full=true"
    (item,) = json.loads(postman([made], pets, name="t"))["item"]
    assert json.dumps(item).count("/pets?q=&full=true") == 1
    (workflow,) = arazzo([made], "x", title="t").document["workflows"]
    assert {"name": "q", "in": "query", "value": ""} in workflow["steps"][0]["parameters"]
