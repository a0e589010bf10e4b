"""The HTML report in a browser (`apt install chromium`): what axe-core finds, and what the page's script does."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from testops_lib.report import render_html
from tests.paths import DATA
from tests.testops_lib.report.reports import hostile_report, shop_report

CHROMIUM = shutil.which("chromium") or ""
AXE = DATA / "axe.min.js"

pytestmark = pytest.mark.skipif(
    not CHROMIUM and not os.environ.get("TESTOPS_CI"), reason="there is no chromium: apt install chromium"
)


def opened(page: str, folder: Path) -> str:
    """The page's document after its scripts have run."""
    file = folder / "page.html"
    file.write_text(page, "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=20000"]
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, *options, profile, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_script(page: str, script: str) -> str:
    """The page without its policy, and with a script whose result stands in `#outcome` as JSON."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    return page.replace("</body>", f'<pre id="outcome"></pre><script>{script}</script></body>')


def outcome(document: str) -> Any:
    return json.loads(html.unescape(document.partition('id="outcome">')[2].partition("</pre>")[0]))


AXE_RUN = """
const told = (node) => node.html.slice(0, 120) + " " + node.any.map((check) => check.message).join("; ");
document.querySelectorAll("details").forEach((element) => { element.open = true; });
axe.run(document).then((result) => {
  document.querySelector("#outcome").textContent = JSON.stringify(
    result.violations.map((violation) => [violation.id, violation.nodes.slice(0, 8).map(told)]));
});
"""


@pytest.mark.parametrize("make", [shop_report, hostile_report])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(make: Callable[[], Any], scheme: str, tmp_path: Path) -> None:
    page = render_html(make()).replace(
        "@media (prefers-color-scheme: dark)", "@media all" if scheme == "dark" else "@media not all"
    )
    page = page.replace("color-scheme: light dark", f"color-scheme: {scheme}")
    violations = outcome(opened(with_script(page, AXE.read_text("utf-8") + AXE_RUN), tmp_path))
    assert violations == []


def test_the_policy_lets_the_page_s_own_script_run(tmp_path: Path) -> None:
    document = opened(render_html(shop_report()), tmp_path)
    assert '<form class="filter" role="search">' in document, "the script shows what needs it"
    assert '<button type="button" class="copy">' in document


def shown_after(script: str, folder: Path) -> tuple[list[str], str]:
    """Titles of the findings that are left, and what the page says of their number."""
    tell = """
      form.dispatchEvent(new Event("input"));
      const left = [...document.querySelectorAll("section > article.finding")].filter((one) => !one.hidden);
      document.querySelector("#outcome").textContent = JSON.stringify(
        [left.map((one) => one.id), form.querySelector("output").textContent]);
    """
    ids, said = outcome(opened(with_script(render_html(shop_report()), script + tell), folder))
    return ids, said


def test_findings_can_be_searched_and_filtered(tmp_path: Path) -> None:
    report = shop_report()
    open_ones = [one for one in report.findings if one.state in ("new", "known")]
    every, said = shown_after("", tmp_path)
    assert every == [f"f-{one.fingerprint}" for one in open_ones] and said == ""
    high, said = shown_after('form.severity.value = "high";', tmp_path)
    assert high == [f"f-{one.fingerprint}" for one in open_ones if one.severity == "high"]
    assert said == f"{len(high)} of {len(every)} shown"
    firm, _ = shown_after("form.counts.checked = true;", tmp_path)
    assert firm == [f"f-{one.fingerprint}" for one in open_ones if not one.advisory]
    searched, _ = shown_after('form.text.value = "ORDERS closed";', tmp_path)
    assert searched == [f"f-{one.fingerprint}" for one in open_ones if "connection was closed" in one.message]


def test_a_single_case_is_said_in_the_singular() -> None:
    report = shop_report()
    one = msgspec.structs.replace(report, totals=msgspec.structs.replace(report.totals, cases=1, requests=1))
    assert "<dt>Case</dt><dd>1<" in render_html(one) and "<dt>Request</dt><dd>1<" in render_html(one)
