"""Cases and evidence in the formats of other tools, for reading and debugging. We never execute any of it."""

from __future__ import annotations

from testops_lib.export.arazzo import arazzo
from testops_lib.export.har import har
from testops_lib.export.hurl import hurl
from testops_lib.export.javascript import k6, postman
from testops_lib.export.python import pytest_source
from testops_lib.export.recipe import public, recipe
from testops_lib.export.shell import curl, curl_case

__all__ = ["arazzo", "curl", "curl_case", "har", "hurl", "k6", "postman", "public", "pytest_source", "recipe"]
