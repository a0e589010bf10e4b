"""Recordings and workflows of other tools -> cases: HAR, Postman collections, Arazzo descriptions.

A file's contents are proposals like those of a model: the one validator judges them against the document; those that
do not fit are dropped and counted. Scripts in a file are never executed; a few usual lines of them are read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from testops_lib.errors import GenerateError
from testops_lib.generate import Generated
from testops_lib.generate.imports import arazzo, har, postman
from testops_lib.generate.imports.calls import Imported, Router
from testops_lib.generate.proposals.validator import Validator
from testops_lib.model import Case, Generation, Policy, Provenance
from testops_lib.spec.operation import Spec

SOURCE = "import"
VERSION = "1"
MAX_FILE_BYTES = 50_000_000
_MOST_NOTES = 50


def generate(
    spec: Spec,
    files: Sequence[Path],
    *,
    policy: Policy,
    base_url: str = "",
    operations: Collection[str] | None = None,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
) -> Generated:
    """Valid cases out of the files, in the files' order, about `operations` (keys; None: all).

    What a person wrote down as expected (Arazzo, Postman) rests on `human`; what was only recorded (HAR) is a guess.
    `values` (by name) fill what a file leaves open: inputs of an Arazzo workflow, variables of a collection.

    Raises:
        GenerateError: a file cannot be read or has none of the three forms.
    """
    router = Router(spec, base_url)
    cases: dict[str, Case] = {}
    dropped: Counter[str] = Counter()
    notes: list[str] = []
    for file in files:
        imported = read(_document(file), router, values or {}, where=str(file))
        notes += [f"{file.name}: {note}" for note in imported.notes]
        validator = Validator(
            spec,
            policy=policy,
            origin=Provenance(source=SOURCE, version=VERSION, model=imported.form),
            identities=identities,
            values=values,
            assumed="guess" if imported.form == "har" else "human",
        )
        for proposal in imported.proposals:
            if operations is not None and proposal["operation"] not in operations:
                continue
            judged = validator.check(proposal)
            if not isinstance(judged, Case) and proposal["intent"] in ("positive", "negative"):
                # The document contradicts the data or does not describe it: expect neither acceptance nor refusal.
                judged = validator.check({**proposal, "intent": "boundary"})
            if isinstance(judged, Case):
                cases.setdefault(judged.id, judged)
            else:
                dropped[judged[0].rule] += 1
                notes.append(f"{file.name}: {proposal['name'][:80]}: {judged[0]}"[:300])
    kept = tuple(cases.values())
    if len(notes) > _MOST_NOTES:
        notes[_MOST_NOTES:] = [f"{len(notes) - _MOST_NOTES} more notes"]
    return Generated(
        cases=kept, generation=Generation(source=SOURCE, cases=len(kept), dropped=dict(dropped), notes=tuple(notes))
    )


def read(document: Any, router: Router, values: Mapping[str, Sequence[Any]], *, where: str) -> Imported:
    """The proposals in a document, whichever of the three forms it has.

    Raises:
        GenerateError: it has none of them.
    """
    if isinstance(document, dict):
        if isinstance(document.get("arazzo"), str):
            return arazzo.read(document, router, values)
        if isinstance(log := document.get("log"), dict) and isinstance(log.get("entries"), list):
            return har.read(log["entries"], router)
        if isinstance(document.get("info"), dict) and isinstance(document.get("item"), list):
            return postman.read(document, router, values)
    raise GenerateError(
        "is neither a HAR recording, nor a Postman collection (v2.1), nor an Arazzo description",
        where=where,
        next_step="export it again in one of these forms",
    )


def _document(file: Path) -> Any:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise GenerateError(f"is larger than {MAX_FILE_BYTES // 1_000_000} MB", where=str(file))
        text = file.read_text("utf-8-sig")
        if file.suffix.lower() in (".yaml", ".yml"):
            return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return json.loads(text)
    except OSError as error:
        raise GenerateError(error.strerror or "cannot be read", where=str(file), next_step="check the path") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise GenerateError(f"cannot be read: {reason}", where=str(file), next_step="mend the file") from error
