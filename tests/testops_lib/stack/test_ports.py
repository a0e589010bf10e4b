"""Taken ports give way to the next free ones, and what was taken is remembered."""

from __future__ import annotations

import socket

from testops_lib.stack import ports


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
