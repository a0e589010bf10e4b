"""Secrets of the local servers."""

from __future__ import annotations

import secrets
from pathlib import Path


def stored_secret(path: Path) -> str:
    """The random word in the file `path`, which is created at the first call and readable by this user alone."""
    if not path.exists():
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.touch(mode=0o600)
        part.write_text(secrets.token_urlsafe(32))
        part.rename(path)
    return path.read_text()
