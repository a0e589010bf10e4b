"""Targets, the APIs under test: what they are, their files, their credentials, their references to variables."""

from __future__ import annotations

from testops_lib.target.authentication import identities, load_auth
from testops_lib.target.definition import (
    Credentials,
    Expected,
    Generate,
    Money,
    Notify,
    PropertyBased,
    ResolvedRun,
    RunConf,
    Scope,
    Target,
)
from testops_lib.target.file import find, load, load_all
from testops_lib.target.references import all_references, expand, references, with_references

__all__ = [
    "Credentials",
    "Expected",
    "Generate",
    "Money",
    "Notify",
    "PropertyBased",
    "ResolvedRun",
    "RunConf",
    "Scope",
    "Target",
    "all_references",
    "expand",
    "find",
    "identities",
    "load",
    "load_all",
    "load_auth",
    "references",
    "with_references",
]
