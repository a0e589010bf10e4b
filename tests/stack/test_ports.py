"""Taken ports give way to the next free ones, and what was taken is remembered."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from stack import ports


def listener(port: int = 0) -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def test_a_taken_port_gives_way_to_a_later_one():
    wanted = ports.pick()
    with listener(wanted):
        assert not ports.is_free(wanted)
        assert ports.pick(wanted) > wanted
    assert ports.pick(wanted) == wanted


def test_any_port_lies_below_the_range_of_outgoing_connections():
    assert all(20000 <= ports.pick() < 32768 for _ in range(20))


def test_settled_ports_are_remembered_and_differ(tmp_path):
    first = ports.settle(tmp_path / "ports.json", {"a": 0, "b": 0})
    assert len(set(first.values())) == 2
    assert ports.settle(tmp_path / "ports.json", {"a": 0, "b": 0}) == first


def test_a_remembered_port_taken_by_a_stranger_is_replaced_alone(tmp_path):
    first = ports.settle(tmp_path / "ports.json", {"a": 0, "b": 0})
    with listener(first["a"]):
        second = ports.settle(tmp_path / "ports.json", {"a": 0, "b": 0})
        assert second["a"] != first["a"]
        assert second["b"] == first["b"]
        # Ours: it is in use by a server that goes on.
        assert ports.settle(tmp_path / "ports.json", {"a": 0}, keep=["a"])["a"] == second["a"]


SETTLE = """
import sys
from pathlib import Path
from stack import ports
print(ports.settle(Path(sys.argv[1]), {"a": int(sys.argv[2])})["a"], flush=True)
sys.stdin.read()
"""


def settle_elsewhere(path: Path, wanted: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SETTLE, str(path), str(wanted)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_that_start_at_the_same_time_settle_on_different_ports(tmp_path):
    wanted = ports.pick()
    others = [settle_elsewhere(tmp_path / f"{number}.json", wanted) for number in range(4)]
    try:
        # No server listens yet on any of them.
        settled = [int(other.stdout.readline()) for other in others]
        assert len(set(settled)) == 4 and wanted in settled
        assert ports.pick(wanted) not in settled
    finally:
        for other in others:
            other.communicate()
    assert ports.settle(tmp_path / "own.json", {"a": wanted}) == {"a": wanted}, "a reservation ends with its process"
    assert ports.settle(tmp_path / "second.json", {"a": wanted})["a"] != wanted
    ports.release(tmp_path / "own.json")
    assert ports.settle(tmp_path / "third.json", {"a": wanted}) == {"a": wanted}


def test_a_port_that_is_wanted_later_wins_over_the_remembered_one(tmp_path):
    first = ports.settle(tmp_path / "ports.json", {"ui": ports.pick(), "api": 0})
    wanted = ports.pick(first["ui"] + 1000)
    assert ports.settle(tmp_path / "ports.json", {"ui": wanted, "api": 0}) == {**first, "ui": wanted}
    assert ports.settle(tmp_path / "ports.json", {"ui": 0, "api": 0})["ui"] == wanted, "0: any will do"
    with listener(wanted):
        second = ports.settle(tmp_path / "ports.json", {"ui": wanted, "api": 0})["ui"]
    assert second != wanted
    assert ports.settle(tmp_path / "ports.json", {"ui": wanted, "api": 0})["ui"] == second, "asked for no second time"
