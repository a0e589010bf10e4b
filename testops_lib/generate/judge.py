"""A request as it will be sent -> whether it is valid by the document: the one judge, whoever made the request.

`invalid` means that no server may take it for valid: neither what a lenient reader makes of its texts, nor the usual
conversions (`"5"` for 5), nor a `format`, which many servers do not assert, would save it. What only those decide is
`unsure`, and what rests on it is a guess. Placeholders of captured values are taken for valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NoReturn
from urllib.parse import unquote

from testops_lib.generate import wire
from testops_lib.generate.readings import Reader
from testops_lib.generate.schemas import RANGES, Schemas, kind_of, kinds
from testops_lib.model import BytesBody, FormBody, JsonBody, MultipartBody, Part, Request, TextBody, Value
from testops_lib.placeholder import fill, fill_text, names
from testops_lib.spec.operation import MediaType, Operation, Parameter, Schema, Spec
from testops_lib.verdict.documented import fits

Validity = Literal["valid", "invalid", "unsure"]

_TOKEN: Final = {"unique": "0123456789ab"}
_CHOICES: Final = frozenset({"oneOf", "anyOf", "not", "const", "enum", "contains", "uniqueItems", "falseSchema"})
_TEMPLATE: Final = re.compile(r"\{([^{}]*)\}")
_FORMAT_BOUNDS: Final = frozenset(bound for bounds in RANGES.values() for bound in bounds)
_MOST: Final = 20


class Violation(Value, frozen=True, kw_only=True):
    """One thing that is not valid."""

    place: str
    """`body/price`, `query/limit`."""
    rule: str
    """The keyword it breaks; `malformed`: no JSON; `media_type`: not documented; `style`: OpenAPI does not say what the
    text of an object or a nested array means; `schema`: its schema cannot be compiled."""
    sure: bool = True
    """No server may take it for valid."""
    message: str = ""
    """For people and models."""


class Judgement(Value, frozen=True, kw_only=True):
    """What the document says of a request."""

    validity: Validity
    violations: tuple[Violation, ...] = ()
    """The reasons, parameters first; empty when it is valid."""


class RequestJudge:
    """Judges requests against one spec; each schema is compiled once, when first needed."""

    def __init__(self, spec: Spec, schemas: Schemas | None = None) -> None:
        self._schemas = schemas or Schemas(spec.definitions)
        self._reader = Reader(self._schemas)
        self._operations = {operation.key: operation for operation in spec.operations}
        self._secrets = frozenset(
            (scheme.where, scheme.name.lower()) for scheme in spec.security_schemes.values() if scheme.kind == "apiKey"
        )
        self._parameters: dict[str, list[tuple[Parameter, str]]] = {}
        self._templates: dict[str, re.Pattern[str]] = {}

    def judge(self, key: str, request: Request, captured: Collection[str] = ()) -> Judgement:
        """Whether a request of the operation `key` is valid, and why not; `captured` are names of earlier steps.

        Raises:
            KeyError: the spec has no such operation.
        """
        operation = self._operations[key]
        violations = (*self._of_parameters(operation, request, captured), *self._of_body(operation, request, captured))
        if not violations:
            return Judgement(validity="valid")
        return Judgement(
            validity="invalid" if any(violation.sure for violation in violations) else "unsure", violations=violations
        )

    # ------------------------------------------------------------------ parameters

    def _of_parameters(self, operation: Operation, request: Request, captured: Collection[str]) -> Iterator[Violation]:
        raw = self._path_texts(operation.path, request.path)
        given = {
            "query": _grouped(request.query),
            "header": _grouped(request.headers, fold=True),
            "cookie": _grouped(request.cookies),
            "path": {name: [unquote(text)] for name, text in raw.items()},
        }
        if operation.key not in self._parameters:
            self._parameters[operation.key] = [
                (parameter, parameter.name.lower() if parameter.where == "header" else parameter.name)
                for parameter in wire.sent_parameters(operation, self._secrets)
            ]
        for parameter, name in self._parameters[operation.key]:
            pairs = given[parameter.where]
            texts = pairs.get(name)
            if texts is None:
                if parameter.required or (pairs and self._an_object(parameter)):
                    yield from self._spread(operation, parameter, pairs, captured)
            elif not any(_holds(text, captured) for text in texts):
                encoded = raw[name] if parameter.where == "path" else ""
                yield from self._of_texts(parameter, texts, f"{parameter.where}/{parameter.name}", encoded)

    def _an_object(self, parameter: Parameter) -> bool:
        return not parameter.content_type and "object" in self._schemas.all_kinds(parameter.schema)

    def _path_texts(self, template: str, path: str) -> dict[str, str]:
        """The percent-encoded text of each path parameter that is the only one of its segment."""
        if template not in self._templates:
            self._templates[template] = re.compile("/".join(map(_segment_pattern, template.split("/"))))
        match = self._templates[template].fullmatch(path)
        names_alone = [found[0] for part in template.split("/") if len(found := _TEMPLATE.findall(part)) == 1]
        return dict(zip(names_alone, match.groups(), strict=True)) if match else {}

    def _spread(
        self, operation: Operation, parameter: Parameter, pairs: Mapping[str, list[str]], captured: Collection[str]
    ) -> Iterator[Violation]:
        """A parameter without a pair of its own name: missing, or an object whose members are pairs."""
        if parameter.where == "path":
            return
        place = f"{parameter.where}/{parameter.name}"
        lead = f"{parameter.name}["
        members = {name[len(lead) :].rstrip("]"): texts for name, texts in pairs.items() if name.startswith(lead)}
        if not members and self._an_object(parameter) and parameter.style != "deepObject" and parameter.explode:
            others = {other.name for other in operation.parameters if other.where == parameter.where}
            declared = self._schemas.members(parameter.schema)
            members = {name: texts for name, texts in pairs.items() if name in declared and name not in others}
            if not members and parameter.required and any(name not in others for name in pairs):
                return  # members that the schema does not name
        if not members:
            if parameter.required:
                yield Violation(place=place, rule="required", message="it is required")
        elif not any(_holds(text, captured) for texts in members.values() for text in texts):
            filled = {name: [fill_text(text, _TOKEN) for text in texts] for name, texts in members.items()}
            readings = list(self._reader.spread(parameter, filled))
            violations = [list(self._of_json(parameter.schema, reading.value, (), place)) for reading in readings]
            if all(violations):
                yield violations[0][0]
            elif not readings[0].strict or violations[0]:
                yield Violation(place=place, rule="style", sure=False, message="its members have no defined form")

    def _of_texts(self, parameter: Parameter, given: Sequence[str], place: str, raw: str = "") -> Iterator[Violation]:
        """What is wrong with a parameter's texts, in whatever way they may be read: at most one violation."""
        schema = parameter.schema
        if not self._schemas.compiles(schema):
            yield Violation(place=place, rule="schema", sure=False, message="its schema cannot be compiled")
            return
        texts = [fill_text(text, _TOKEN) for text in given]
        readings = list(self._reader.readings(parameter, texts, raw))
        accepted = [reading.strict for reading in readings if self._schemas.accepts(schema, reading.value)]
        if any(accepted) or (parameter.allow_empty and texts == [""]):
            return
        if parameter.content_type and not any(reading.strict for reading in readings):
            yield Violation(place=place, rule="malformed", sure=not accepted, message="it is no JSON")
            return
        rule, message, sure = self._reason(schema, [reading.value for reading in readings if reading.strict] or texts)
        if accepted:
            yield Violation(place=place, rule=rule, sure=False, message=f"{message}, unless it is read leniently")
        elif "object" in self._schemas.all_kinds(schema) and not parameter.content_type:
            yield Violation(place=place, rule="style", sure=False, message="OpenAPI defines no such text of an object")
        else:
            empty = texts == [""] and not parameter.required  # may be read as not given
            yield Violation(place=place, rule=rule, sure=sure and not empty, message=message)

    def _reason(self, schema: Schema, values: Sequence[Any]) -> tuple[str, str, bool]:
        """Rule, message and sureness of why none of the readings is valid."""
        allowed = self._schemas.all_kinds(schema)
        sure, best = True, ("type", "it has another type")
        for value in values:
            errors = list(self._schemas.errors(schema, value))
            if not errors:
                continue
            sure = sure and any(self._certain(error, value, schema, converts=False) for error in errors)
            kind = kind_of(value)
            if kind in allowed or (kind == "integer" and "number" in allowed) or len(values) == 1:
                best = errors[0].kind.name, errors[0].message
        return (*best, sure)

    # ------------------------------------------------------------------ bodies

    def _of_body(self, operation: Operation, request: Request, captured: Collection[str]) -> Iterator[Violation]:
        if operation.body is None:
            return
        body = request.body
        if body is None:
            if operation.body.required:
                yield Violation(place="body", rule="required", message="a body is required")
            return
        content = operation.body.content
        media = {FormBody: wire.FORM, MultipartBody: wire.MULTIPART}.get(type(body)) or body.media_type  # type: ignore[union-attr]
        described = _described(content, media)
        if described is None:
            if content:
                documented = "415" in operation.responses
                yield Violation(place="body", rule="media_type", sure=documented, message=f"{media} is not documented")
        elif described.schema is None:
            return
        elif isinstance(body, FormBody | MultipartBody):
            yield from self._of_form(described, body, captured)
        elif isinstance(body, JsonBody):
            yield from self._of_json(
                described.schema, body.value, captured, "body", optional=not operation.body.required
            )
        elif wire.is_json(media):
            try:
                value = json.loads(_text(body), parse_constant=_no_constant)
            except (ValueError, RecursionError):
                yield Violation(place="body", rule="malformed", message="it is no JSON")
            else:
                yield from self._of_json(described.schema, value, (), "body", optional=not operation.body.required)

    def _of_form(
        self, described: MediaType, body: FormBody | MultipartBody, captured: Collection[str]
    ) -> Iterator[Violation]:
        """In a form all is text, as in a query."""
        schema: Schema = True if described.schema is None else described.schema
        flat = self._schemas.flat(schema)
        given: dict[str, list[str | Part]] = {}
        for name, item in body.fields if isinstance(body, FormBody) else ((part.name, part) for part in body.parts):
            given.setdefault(name, []).append(item)
        for name in flat.get("required", ()):
            declared = self._schemas.flat(self._schemas.member(schema, name))
            if name not in given and declared.get("readOnly") is not True:
                many = "array" in kinds(declared)  # an empty one cannot be written
                yield Violation(place=f"body/{name}", rule="required", sure=not many, message=f"{name!r} is required")
        for name, items in given.items():
            declared_schema = self._schemas.member(schema, name)
            if declared_schema is False:
                yield Violation(
                    place=f"body/{name}", rule="additionalProperties", sure=False, message="it is not described"
                )
                continue
            texts = [
                item if isinstance(item, str) else _part_text(item, self._schemas.flat(declared_schema))
                for item in items
            ]
            if declared_schema is True or any(text is None or _holds(text, captured) for text in texts):
                continue
            encoded = described.encoding.get(name, "")
            encoded = encoded or next((item.media_type for item in items if isinstance(item, Part)), "")
            field = Parameter(
                name=name,
                where="query",
                schema=declared_schema,
                explode=True,
                style="form",
                content_type=encoded if encoded and wire.is_json(encoded) else "",
            )
            yield from self._of_texts(field, [text for text in texts if text is not None], f"body/{name}")

    def _of_json(
        self, schema: Schema, value: Any, captured: Collection[str], root: str, *, optional: bool = False
    ) -> Iterator[Violation]:
        if not self._schemas.compiles(schema):
            yield Violation(place=root, rule="schema", sure=False, message="its schema cannot be compiled")
            return
        filled = fill(value, _TOKEN)
        errors: Iterator[Any] = self._schemas.errors(schema, filled)
        for count, error in enumerate(errors):
            if count == _MOST:
                return
            node = _at(filled, error.instance_path)
            rule = error.kind.name
            if _holds(node, captured) and (rule in _CHOICES or isinstance(node, str)):
                continue
            place = "/".join([root, *map(str, error.instance_path)])
            if rule == "required":
                place = f"{place}/{error.kind.property}"
            sure = self._certain(error, filled, schema) and not (optional and filled is None)
            yield Violation(place=place, rule=rule, sure=sure, message=error.message[:200])

    # ------------------------------------------------------------------ how sure

    def _certain(self, error: Any, whole: Any, schema: Schema, *, converts: bool = True) -> bool:
        """No server may take the value for valid; with `converts` it may read `"5"` as 5."""
        rule = error.kind.name
        if rule in ("oneOf", "anyOf"):
            branches = error.kind.context
            return bool(branches) and all(
                any(self._certain(inner, whole, schema, converts=converts) for inner in branch) for branch in branches
            )
        if rule == "format" or (rule in ("minimum", "maximum") and error.kind.limit in _FORMAT_BOUNDS):
            return False
        if rule != "type" or not converts:
            return True
        value = _at(whole, error.instance_path)
        if value is None:
            return not self._may_be_absent(schema, list(error.instance_path))
        # What pydantic, Jackson and others convert unless told not to.
        wanted = set(re.findall(r"[a-z]+", str(error.kind.types)))
        if isinstance(value, bool | int | float):
            return not wanted & {"boolean", "integer", "number", "string"}
        return not (isinstance(value, str) and wanted & {"boolean", "integer", "number"} and _converts(value))

    def _may_be_absent(self, schema: Schema, path: list[str | int]) -> bool:
        """The place is an optional member, for which many servers read null as not given."""
        if not path or not isinstance(path[-1], str):
            return False
        for part in path[:-1]:
            flat = self._schemas.flat(schema)
            schema = flat.get("items", True) if isinstance(part, int) else self._schemas.member(schema, part)
        flat = self._schemas.flat(schema)
        parts = (flat, *map(self._schemas.flat, self._schemas.branches(flat)))
        return not any(path[-1] in part.get("required", ()) for part in parts)


def _segment_pattern(part: str) -> str:
    """Several parameters in one segment cannot be told apart, and trying to would take for ever."""
    pieces = _TEMPLATE.split(part)
    if len(pieces) > 3:
        return "[^/]*"
    return "([^/]*)".join(re.escape(piece) for piece in pieces[::2])


def _converts(text: str) -> bool:
    bare = text.strip().lower()
    if bare in ("", "true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "null", "none", "nan", "inf"):
        return True
    try:
        float(bare.replace("_", ""))
    except ValueError:
        return False
    return True


def _grouped(pairs: Iterable[tuple[str, str]], *, fold: bool = False) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name.lower() if fold else name, []).append(value)
    return grouped


def _described(content: Mapping[str, MediaType], media: str) -> MediaType | None:
    kind = media.split(";", 1)[0].strip().lower()
    for name, described in content.items():
        if name == media or fits(name, kind):
            return described
    return None


def _text(body: TextBody | BytesBody) -> str:
    return body.text if isinstance(body, TextBody) else body.data.decode("utf-8")


def _part_text(part: Part, declared: Mapping[str, Any]) -> str | None:
    """The text of a form's part; None for a file."""
    if part.filename or wire.is_file(declared):
        return None
    try:
        return part.data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _at(value: Any, path: Iterable[str | int]) -> Any:
    for key in path:
        value = value[key]
    return value


def _holds(value: Any, captured: Collection[str]) -> bool:
    """A captured value stands somewhere in it."""
    if isinstance(value, str):
        return "{" in value and any(name in captured for name in names(value))
    if isinstance(value, dict):
        return any(_holds(item, captured) for item in value.values())
    return isinstance(value, list) and any(_holds(item, captured) for item in value)
