"""The exit codes of the command line."""

from __future__ import annotations

from typing import Final

NOTHING_FOUND: Final = 0
FINDINGS: Final = 1
COULD_NOT_RUN: Final = 2
"""Wrong options, a target that is away, or somebody stopped it."""
