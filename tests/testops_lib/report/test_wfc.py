from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import msgspec
import yaml

from testops_lib.model import (
    Failure,
    OperationReport,
    Result,
    StepOutcome,
)
from testops_lib.report import (
    render_wfc,
)
from tests.paths import DATA
from tests.testops_lib.report.reports import HOSTILE, shop_report, shop_results


def wfc_validator() -> Any:
    schema = yaml.safe_load((DATA / "wfc-report.schema.yaml").read_text())
    return jsonschema_rs.validator_for(schema, validate_formats=True)


def test_wfc_report_is_valid() -> None:
    wfc_validator().validate(json.loads(render_wfc(shop_report(), shop_results())))


def test_wfc_report_of_hostile_text_is_valid() -> None:
    text = HOSTILE.replace("\ud800", "")  # JSON cannot hold lone surrogates: no result that came by JSON has one
    result = Result(
        run="r",
        case=text,
        case_name=text,
        operation=text,
        verdict="failed",
        requests=1,
        failures=(Failure(check=text, operation=text, message=text),),
        steps=(StepOutcome(operation=text, status=999),),
    )
    report = msgspec.structs.replace(shop_report(), operations={text: OperationReport()}, started=None, finished=None)
    wfc_validator().validate(json.loads(render_wfc(report, [result])))


def test_wfc_faults_are_the_findings_of_the_run() -> None:
    report = shop_report()
    document = json.loads(render_wfc(report, shop_results()))
    assert document["faults"]["totalNumber"] == report.totals.findings
    kinds = [kind for one in document["faults"]["foundFaults"] for kind in one["faultCategories"]]
    fingerprints = {one.fingerprint for one in report.findings if one.state != "fixed"}
    assert {kind["context"].split()[1] for kind in kinds} == fingerprints
    assert document["totalTests"] == report.totals.cases and document["creationTime"] == "2026-03-14T02:00:38.400000Z"
    assert document["problemDetails"]["rest"]["outputHttpCalls"] == report.totals.requests
