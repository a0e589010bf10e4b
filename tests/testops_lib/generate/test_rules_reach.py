"""How the rules reach operations that need several things made before, each under a name of its own."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from testops_lib import spec as specs
from testops_lib.generate import rules
from testops_lib.generate.feedback import Feedback, Gap, Refusal
from testops_lib.model import Case, JsonBody, Policy, Step

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


def thing(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


def answers(status: int, schema: Any = None) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": schema}}} if schema is not None else {}
    return {str(status): {"description": "", **content}}


def body(schema: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def ids(**schemas: Any) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name, schema in schemas.items()]


def first_look(tmp_path: Path, paths: Any, operation: str, feedback: Feedback | None = None) -> Case:
    return looks(tmp_path, paths, operation, feedback)[0]


def looks(tmp_path: Path, paths: Any, operation: str, feedback: Feedback | None = None) -> list[Case]:
    file = tmp_path / "document.json"
    file.write_text(json.dumps({"openapi": "3.0.3", "info": {"title": "", "version": "1"}, "paths": paths}))
    made = rules.generate(specs.load(str(file)), operations=[operation], policy=Policy(), feedback=feedback)
    return [case for case in made.cases if case.intent == "positive"]


def sent(step: Step) -> Any:
    return step.request.body.value if isinstance(step.request.body, JsonBody) else None


NAMED = thing("name", name=TEXT)
MADE = answers(201, thing(id=NUMBER, name=TEXT))


def test_a_copy_is_not_made_under_the_name_of_the_original(tmp_path: Path) -> None:
    paths = {
        "/plans": {"post": {"requestBody": body(NAMED), "responses": MADE}},
        "/plans/{plan_id}/clone": {
            "parameters": ids(plan_id=NUMBER),
            "post": {"requestBody": body(NAMED), "responses": MADE},
        },
    }
    made, copied = first_look(tmp_path, paths, "POST /plans/{plan_id}/clone").steps
    assert "{unique}" in sent(made)["name"] and "{unique}" in sent(copied)["name"]
    assert sent(made)["name"] != sent(copied)["name"]


def test_what_is_replaced_keeps_its_name(tmp_path: Path) -> None:
    paths = {
        "/users": {"post": {"requestBody": body(thing("username", username=TEXT)), "responses": answers(201)}},
        "/users/{username}": {
            "parameters": ids(username=TEXT),
            "put": {"requestBody": body(thing("username", username=TEXT)), "responses": answers(200)},
        },
    }
    made, replaced = first_look(tmp_path, paths, "PUT /users/{username}").steps
    assert sent(made) == sent(replaced) and replaced.request.path == f"/users/{sent(made)['username']}"


def test_a_property_called_like_what_is_made_is_its_name_and_new(tmp_path: Path) -> None:
    paths = {"/topics": {"post": {"requestBody": body(thing("topic", topic=TEXT)), "responses": answers(201)}}}
    (step,) = first_look(tmp_path, paths, "POST /topics").steps
    assert "{unique}" in sent(step)["topic"]


def test_five_things_are_made_one_for_the_other(tmp_path: Path) -> None:
    names = ["team", "member", "role", "grant", "use"]
    paths: dict[str, Any] = {"/teams": {"post": {"responses": answers(201, thing(team_id=NUMBER))}}}
    for parent, child in pairwise(names):
        made = answers(201, thing(**{f"{child}_id": NUMBER}))
        paths[f"/{parent}s/{{{parent}_id}}/{child}s"] = {
            "parameters": ids(**{f"{parent}_id": NUMBER}),
            "post": {"responses": made},
        }
    paths["/uses/{use_id}"] = {"parameters": ids(use_id=NUMBER), "get": {"responses": answers(200)}}
    steps = first_look(tmp_path, paths, "GET /uses/{use_id}").steps
    assert [step.request.method for step in steps] == ["POST"] * 5 + ["GET"]
    assert steps[-1].request.path == "/uses/{use_id}"


def test_a_directory_is_made_before_what_lies_in_it(tmp_path: Path) -> None:
    made = {"put": {"responses": answers(201)}}
    paths = {
        "/dirs/{dir}": {"parameters": ids(dir=TEXT), **made},
        "/dirs/{dir}/files/{file}": {
            "parameters": ids(dir=TEXT, file=TEXT),
            **made,
            "get": {"responses": answers(200)},
        },
    }
    steps = first_look(tmp_path, paths, "GET /dirs/{dir}/files/{file}").steps
    assert [step.operation for step in steps] == [
        "PUT /dirs/{dir}",
        "PUT /dirs/{dir}/files/{file}",
        "GET /dirs/{dir}/files/{file}",
    ]


def test_a_checkpoint_is_made_before_it_is_restored(tmp_path: Path) -> None:
    paths = {
        "/books": {"post": {"requestBody": body(NAMED), "responses": MADE}},
        "/books/{book_id}/checkpoints": {
            "parameters": ids(book_id=NUMBER),
            "post": {"responses": answers(201, thing(id=TEXT))},
        },
        "/books/{book_id}/checkpoints/{checkpoint_id}/restore": {
            "parameters": ids(book_id=NUMBER, checkpoint_id=TEXT),
            "post": {"responses": answers(204)},
        },
    }
    *_, restore = steps = first_look(tmp_path, paths, "POST /books/{book_id}/checkpoints/{checkpoint_id}/restore").steps
    assert [step.operation for step in steps[:-1]] == ["POST /books", "POST /books/{book_id}/checkpoints"]
    assert restore.request.path == "/books/{book_id}/checkpoints/{checkpoint_id}/restore"


def test_after_a_refusal_the_members_that_it_names_are_sent(tmp_path: Path) -> None:
    schema = thing("name", name=TEXT, colour=TEXT, weight=NUMBER, note=TEXT)
    paths = {"/plans": {"post": {"requestBody": body(schema), "responses": MADE}}}
    refusal = Refusal(status=400, said='{"error": "weight must be given together with colour"}')
    gap = Gap(operation="POST /plans", reached=False, refusals=(refusal,))
    cases = looks(tmp_path, paths, "POST /plans", Feedback(gaps=(gap,), seen={}))
    named = next(case for case in cases if case.name.endswith("with what the refusal names"))
    assert set(sent(named.steps[-1])) == {"name", "weight", "colour"}
