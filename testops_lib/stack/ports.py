"""Ports of 127.0.0.1: the wanted one, else the next free one, remembered in a state directory."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from testops_lib.errors import StackError
from testops_lib.stack import HOST

# Below the range from which Linux takes the ports of outgoing connections (32768 and up): in that range a client
# that polls a server which is not up yet can be connected to itself, and the server then finds its port taken.
UNSPECIFIC = range(20000, 32000)


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def pick(wanted: int = 0, *, avoid: Iterable[int] = ()) -> int:
    """`wanted` if it is free, else the next free port after it; 0: any free port.

    Raises:
        StackError: 500 ports in a row are taken.
    """
    taken = set(avoid)
    start = wanted or random.choice(UNSPECIFIC)
    for port in range(start, min(start + 500, 65536)):
        if port not in taken and is_free(port):
            return port
    raise StackError(
        f"no free port from {start} to {start + 499}",
        where=HOST,
        next_step="end what listens there, or give another port in .env",
    )


def settle(path: Path, wanted: Mapping[str, int], *, keep: Iterable[str] = ()) -> dict[str, int]:
    """Name -> port for each name of `wanted`: as remembered in the file `path` where still free, else picked anew.

    Ports of the names in `keep` are in use by our own servers and stay whatever they are. The answer is
    written back to `path`.
    """
    known: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    ports = {name: known[name] for name in keep if name in known}
    for name, first_choice in wanted.items():
        if name not in ports:
            ports[name] = pick(known.get(name) or first_choice, avoid=ports.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ports))
    return ports
