"""A case for k6 and for Postman: the case as JSON, and one fixed script that executes it.

No text of a case ever becomes code: it stands in a JSON value.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from testops_lib.export.request import body_text, captured_names, check_name, cookie_header, names, with_media_type
from testops_lib.export.statuses import accepted_statuses
from testops_lib.export.text import PLACEHOLDER, comment, places
from testops_lib.http.multipart import encode_multipart
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    AnyBody,
    AnyCheck,
    BytesBody,
    Case,
    FormBody,
    HeaderIs,
    JsonBody,
    JsonPathIs,
    MaxResponseTime,
    MultipartBody,
    Part,
    Step,
)

_SHARED = """
function fill(value, values) {
  if (typeof value === "string") {
    const whole = /^\\{([A-Za-z_]\\w*)\\}$/.exec(value);
    if (whole && whole[1] in values) return values[whole[1]];
    return value.replace(/\\{([A-Za-z_]\\w*)\\}/g, (all, name) => (name in values ? text(values[name]) : all));
  }
  if (Array.isArray(value)) return value.map((item) => fill(item, values));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, fill(item, values)]));
  }
  return value;
}
function text(value) { return typeof value === "string" ? value : JSON.stringify(value); }
function at(document, places) {
  return places.reduce((node, place) => (node === undefined || node === null ? undefined : node[place]), document);
}
function header(headers, wanted) {
  const name = Object.keys(headers).find((key) => key.toLowerCase() === wanted.toLowerCase());
  return name === undefined ? undefined : headers[name];
}
function same(a, b) { return JSON.stringify(a) === JSON.stringify(b); }
function holds(test, answer, values) {
  const value = "value" in test ? fill(test.value, values) : undefined;
  if ("statuses" in test) {
    return test.statuses.some(([low, high]) => low <= answer.status && answer.status <= high);
  }
  if ("limit_ms" in test) return answer.ms <= test.limit_ms;
  if ("header" in test) {
    const sent = header(answer.headers, test.header);
    return sent !== undefined && (value === undefined || sent === text(value));
  }
  const node = at(answer.json, test.places);
  if (test.op === "exists") return node !== undefined;
  if (test.op === "absent") return node === undefined;
  return test.op === "excludes" ? !same(node, value) : same(node, value);
}
function keep(captures, answer, values) {
  for (const capture of captures) {
    const value = capture.source === "status" ? answer.status
      : capture.source === "header" ? header(answer.headers, capture.header) : at(answer.json, capture.places);
    if (value !== undefined) values[capture.name] = value;
  }
}
"""

_K6 = (
    """import http from "k6/http";
import encoding from "k6/encoding";
import { check } from "k6";

export const options = { vus: 1, iterations: 1, thresholds: { checks: ["rate==1"] } };
const BASE_URL = __ENV.BASE_URL || CASE.base_url;
"""
    + _SHARED
    + """
function credentials(identity) {
  if (identity === "none") return {};
  if (identity === "invalid") return { Authorization: "Bearer invalid" };
  return JSON.parse(__ENV["API_HEADERS" + (identity ? "_" + identity.toUpperCase() : "")] || "{}");
}
function send(step, values) {
  const path = step.path.replace(/\\{([A-Za-z_]\\w*)\\}/g, (all, name) =>
    (name in values ? encodeURIComponent(text(values[name])) : all));
  const query = step.query.map(([name, value]) =>
    encodeURIComponent(text(fill(name, values))) + "=" + encodeURIComponent(text(fill(value, values)))).join("&");
  const headers = Object.assign({}, credentials(step.identity));
  for (const [name, value] of step.headers) headers[name] = text(fill(value, values));
  let body = null;
  if (step.body && "json" in step.body) body = JSON.stringify(fill(step.body.json, values));
  else if (step.body && "text" in step.body) body = step.body.text;
  else if (step.body && "form" in step.body) {
    body = step.body.form.map(([name, value]) =>
      encodeURIComponent(name) + "=" + encodeURIComponent(text(fill(value, values)))).join("&");
  } else if (step.body) body = encoding.b64decode(step.body.base64);
  const response = http.request(step.method, BASE_URL + path + (query ? "?" + query : ""), body,
    { headers, redirects: 0, timeout: "30s" });
  let json;
  try { json = response.json(); } catch (error) { json = undefined; }
  return { status: response.status, headers: response.headers, ms: response.timings.duration, json };
}

export default function () {
  const values = { unique: Math.random().toString(16).slice(2, 14).padEnd(12, "0") };
  for (const step of CASE.steps) {
    const answer = send(step, values);
    const tests = step.tests.map((test) => [step.operation + ": " + test.label, () => holds(test, answer, values)]);
    const good = check(answer, Object.fromEntries(tests));
    keep(step.captures, answer, values);
    if (!good) break;
  }
  for (const step of CASE.cleanup) send(step, values);
}
"""
)

_POSTMAN_TEST = (
    _SHARED
    + """
const values = pm.collectionVariables.toObject();
let json;
try { json = pm.response.json(); } catch (error) { json = undefined; }
const answer = {
  status: pm.response.code, ms: pm.response.responseTime, json,
  headers: Object.fromEntries(pm.response.headers.all().map((header) => [header.key, header.value])),
};
for (const test of STEP.tests) {
  pm.test(test.label, () => { if (!holds(test, answer, values)) throw new Error(test.label); });
}
const kept = {};
keep(STEP.captures, answer, kept);
for (const name of Object.keys(kept)) pm.collectionVariables.set(name, kept[name]);
"""
)

POSTMAN_SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"


def k6(case: Case, base_url: str) -> str:
    """A k6 script (https://k6.io) that runs the case once: `k6 run --env BASE_URL=… FILE`.

    Credentials: the variable API_HEADERS holds a JSON object of header names and values (API_HEADERS_<IDENTITY> for
    another identity than the default). Checks that need the API description are left out; `left_out` names them.
    """
    document = {
        "base_url": base_url.rstrip("/"),
        "steps": [_step(step) for step in case.steps],
        "cleanup": [_step(step) for step in case.cleanup],
    }
    return f"// {comment(case.name)}\nconst CASE = {_json(document)};\n{_K6}"


def postman(cases: Iterable[Case], base_url: str, *, name: str) -> bytes:
    """A Postman collection (format v2.1): a folder for each case, a request for each step, checks as tests.

    Variables of the collection: `base_url`, and `authorization` (sent where it is not empty).
    """
    folders = []
    for case in cases:
        items = [_item(step, case) for step in case.steps] + [_item(step, case, cleanup=True) for step in case.cleanup]
        begin = 'pm.collectionVariables.set("unique", Math.random().toString(16).slice(2, 14).padEnd(12, "0"));'
        items[0]["event"].insert(0, {"listen": "prerequest", "script": {"type": "text/javascript", "exec": [begin]}})
        folders.append({"name": case.name, "description": case.id, "item": items})
    variables = [{"key": "base_url", "value": base_url.rstrip("/")}, {"key": "authorization", "value": ""}]
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, "".join(str(folder["description"]) for folder in folders))
    collection = {
        "info": {"_postman_id": str(identifier), "name": name, "schema": POSTMAN_SCHEMA},
        "item": folders,
        "variable": variables,
    }
    return msgspec.json.encode(collection)


def _item(step: Step, case: Case, *, cleanup: bool = False) -> dict[str, Any]:
    request = step.request
    captured = captured_names(case)

    def template(text: str) -> str:
        return PLACEHOLDER.sub(lambda match: "{{" + match[1] + "}}" if match[1] in captured else match[0], text)

    headers = [{"key": key, "value": template(value)} for key, value in (*request.headers, *cookie_header(request))]
    named = names(request.headers)
    if step.identity != NO_CREDENTIALS and "authorization" not in named:
        value = "Bearer invalid" if step.identity == INVALID_CREDENTIALS else "{{authorization}}"
        headers.append({"key": "Authorization", "value": value})
    written: dict[str, Any] = {"method": request.method}
    body = request.body
    if isinstance(body, FormBody):
        written["body"] = {
            "mode": "urlencoded",
            "urlencoded": [{"key": key, "value": template(value)} for key, value in body.fields],
        }
    elif isinstance(body, MultipartBody):
        written["body"] = {"mode": "formdata", "formdata": [_form_part(part) for part in body.parts]}
    elif body is not None:
        text, media_type = body_text(body)
        written["body"] = {"mode": "raw", "raw": template(text)}
        if media_type and "content-type" not in named:
            headers.append({"key": "Content-Type", "value": media_type})
    query = urlencode(request.query, quote_via=quote, safe="{}", errors="replace")
    written["header"] = headers
    written["url"] = "{{base_url}}" + template(request.path) + ("?" + template(query) if query else "")
    data = {"tests": [] if cleanup else _tests(step), "captures": _captures(step)}
    script = f"const STEP = {_json(data)};\n{_POSTMAN_TEST}"
    event = {"listen": "test", "script": {"type": "text/javascript", "exec": script.split("\n")}}
    label = f"{step.operation} (cleanup)" if cleanup else step.operation
    return {"name": label, "request": written, "event": [event]}


def _form_part(part: Part) -> dict[str, str]:
    field = {"key": part.name, "type": "text", "value": part.data.decode("utf-8", "replace")}
    if part.filename:
        field["fileName"] = part.filename
    if part.media_type:
        field["contentType"] = part.media_type
    return field


def _json(value: Any) -> str:
    """JSON that is JavaScript as well, and cannot end a script or a line."""
    text = msgspec.json.encode(value).decode()
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _step(step: Step) -> dict[str, Any]:
    request = step.request
    body, media_type = _body(request.body)
    return {
        "operation": step.operation,
        "method": request.method,
        "path": request.path,
        "query": list(request.query),
        "headers": [*with_media_type(request.headers, media_type), *cookie_header(request)],
        "identity": step.identity,
        "body": body,
        "tests": _tests(step),
        "captures": _captures(step),
        "left_out": _left_out(step),
    }


def _body(body: AnyBody | None) -> tuple[dict[str, Any] | None, str]:
    match body:
        case None:
            return None, ""
        case JsonBody():
            return {"json": body.value}, body.media_type
        case FormBody():
            return {"form": list(body.fields)}, "application/x-www-form-urlencoded"
        case BytesBody():
            return {"base64": base64.b64encode(body.data).decode()}, body.media_type
        case MultipartBody():
            whole, media_type = encode_multipart(body.parts)
            return {"base64": base64.b64encode(whole).decode()}, media_type
    return {"text": body.text}, body.media_type


def _captures(step: Step) -> list[dict[str, Any]]:
    captures: list[dict[str, Any]] = []
    for capture in step.captures:
        written: dict[str, Any] = {"name": capture.name, "source": capture.source}
        if capture.source == "header":
            written["header"] = capture.path
        elif capture.source == "body":
            keys = places(capture.path)
            if keys is None:
                continue
            written["places"] = keys
        captures.append(written)
    return captures


def _tests(step: Step) -> list[dict[str, Any]]:
    tests = [{"label": "the preparation succeeds", "statuses": [[200, 299]]}] if step.setup else []
    for check in step.checks:
        test = _test(check)
        if test is not None:
            tests.append({"label": check_name(check), **test})
    return tests


def _left_out(step: Step) -> list[str]:
    return [check_name(check) for check in step.checks if _test(check) is None]


def _test(check: AnyCheck) -> dict[str, Any] | None:
    if (accepted := accepted_statuses(check)) is not None:
        inside = [[accepted.lowest, accepted.below - 1]] if accepted.lowest < accepted.below else []
        return {"statuses": [*inside, *([status, status] for status in accepted.also)]}
    match check:
        case MaxResponseTime(limit_ms=limit):
            return {"limit_ms": limit}
        case HeaderIs(name=name, equals=equals):
            return {"header": name} if equals is None else {"header": name, "value": equals}
        case JsonPathIs(path=path, op=op, value=value):
            keys = places(path)
            if keys is None or op not in ("exists", "absent", "equals", "contains", "excludes"):
                return None
            return {"places": keys, "op": op, "value": value}
    return None
