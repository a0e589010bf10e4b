"""Report value -> what people and other tools read; each format is one function.

Whatever a target answered is hostile text here: every format shows it and none obeys it.
"""

from __future__ import annotations

from testops_lib.report.html import render_html
from testops_lib.report.json import read_report, render_json
from testops_lib.report.junit import JunitWriter, render_junit
from testops_lib.report.terminal import render_terminal, terminal_text
from testops_lib.report.wfc import WfcWriter, render_wfc

__all__ = [
    "JunitWriter",
    "WfcWriter",
    "read_report",
    "render_html",
    "render_json",
    "render_junit",
    "render_terminal",
    "render_wfc",
    "terminal_text",
]
