"""Places that tests read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""
DATA = ROOT / "tests" / "data"
GOLDEN = ROOT / "tests" / "golden"
DOCS = ROOT / "docs"
SHARED = ROOT.parent / "shared"
"""What a development machine may have beside the checkout: large documents, a test cluster."""
