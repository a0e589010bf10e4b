"""Ports of 127.0.0.1: the wanted one, else the next free one, remembered in a state directory.

A port that was settled is reserved until it is released or this process ends: between the choice and the moment its
server listens, no other process of ours takes it. The reservation is a lock on a file that all users share.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from stack import HOST
from testops_lib.errors import StackError

# Below the range from which Linux takes the ports of outgoing connections (32768 and up): in that range a client
# that polls a server which is not up yet can be connected to itself, and the server then finds its port taken.
UNSPECIFIC = range(20000, 32000)

LOCKS = Path(tempfile.gettempdir()) / "testops-ports"
"""One file for each port that was ever reserved on this machine."""

_reserved: dict[int, tuple[str, int]] = {}
"""Port -> whose it is in this process, and the descriptor that holds the lock."""


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def pick(wanted: int = 0, *, avoid: Iterable[int] = (), owner: str = "") -> int:
    """`wanted` if it is free, else the next free port after it; 0: any free port.

    With an `owner` the port is reserved for it; without, it was free a moment ago.

    Raises:
        StackError: 500 ports in a row are taken.
    """
    taken = set(avoid)
    start = wanted or random.choice(UNSPECIFIC)
    for port in range(start, min(start + 500, 65536)):
        if port not in taken and _reserve(port, owner):
            if not owner:
                _give_back(port)
            return port
    raise StackError(
        f"no free port from {start} to {start + 499}",
        where=HOST,
        next_step="end what listens there, or give another port in .env",
    )


def settle(path: Path, wanted: Mapping[str, int], *, keep: Iterable[str] = ()) -> dict[str, int]:
    """Name -> port for each name of `wanted`: as remembered in the file `path` where still free, else picked anew.

    A port that is wanted now and was not when the file was written wins over the remembered one. Ports of the names in
    `keep` are in use by our own servers and stay whatever they are. The answer is written back to `path`, and its
    ports are reserved until `release`.
    """
    remembered = json.loads(path.read_text()) if path.exists() else {}
    known: dict[str, int] = remembered.get("ports", remembered)
    before: dict[str, int] = remembered.get("wanted", {})
    ports = {name: known[name] for name in keep if name in known}
    for name, first_choice in wanted.items():
        if name not in ports:
            changed = first_choice and first_choice != before.get(name)
            first = first_choice if changed else known.get(name) or first_choice
            ports[name] = pick(first, avoid=ports.values(), owner=str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"ports": ports, "wanted": {**before, **wanted}}))
    return ports


def release(path: Path) -> None:
    """Others may have the ports that were settled with the file `path`."""
    for port in [port for port, (owner, _) in _reserved.items() if owner == str(path)]:
        _give_back(port)


def _reserve(port: int, owner: str) -> bool:
    """Whether the port is free and nobody else's; then it is reserved."""
    if port in _reserved:
        return _reserved[port][0] == owner and is_free(port)
    lock = _open(LOCKS / str(port))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    _reserved[port] = (owner, lock)
    if not is_free(port):
        _give_back(port)
        return False
    return True


def _give_back(port: int) -> None:
    os.close(_reserved.pop(port)[1])


def _open(path: Path) -> int:
    """A descriptor of the lock file, made for all users if it is not there."""
    if not path.parent.is_dir():
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o1777)
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
