"""Stages and lines a person sees while a run goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from stack.local import Span
from stack.show import Live, Plain, Row, stages, where_time_went
from testops_lib.airflow_api import TaskState

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def task(name: str, state: str, index: int = -1, begin: float | None = None, end: float | None = None) -> TaskState:
    return TaskState(
        task=name,
        map_index=index,
        state=state,
        started=None if begin is None else NOON + timedelta(seconds=begin),
        ended=None if end is None else NOON + timedelta(seconds=end),
    )


def test_stages_stand_in_the_order_in_which_they_began():
    rows = stages([task("gate", ""), task("b", "running", begin=5), task("a", "success", begin=1, end=3)])
    assert [row.name for row in rows] == ["a", "b", "gate"]
    assert [row.elapsed_s for row in rows] == [2, 0, 0]


def test_mapped_instances_are_one_stage_from_the_first_begin_to_the_last_end():
    done = [task("x", "success", 0, 1, 4), task("x", "success", 1, 2, 9)]
    assert stages(done) == [Row(name="x", state="success", detail="2 of 2", elapsed_s=8)]


def test_a_stage_is_as_far_as_its_worst_instance():
    def state(*states: str) -> str:
        return stages([task("x", state, index) for index, state in enumerate(states)])[0].state

    assert state("success", "failed", "running") == "failed"
    assert state("success", "running") == "running"
    assert state("success", "queued") == "running"
    assert state("queued", "") == "queued"
    assert state("success", "skipped") == "success"
    assert state("upstream_failed") == "upstream_failed"


def test_times_count_from_the_start_in_the_order_of_their_beginning():
    spans = [Span(name="late", begin=13, end=14), Span(name="early", begin=10, end=20)]
    assert where_time_went(spans, 10) == [("early", 0, 10), ("late", 3, 1)]


def test_plain_lines_come_only_when_something_changed(capsys):
    plain = Plain(0)
    for _ in range(3):
        plain.row(Row(name="execute", state="running", detail="1 of 8"))
    plain.row(Row(name="execute", state="running", detail="2 of 8"))
    plain.cases(3, 10, 1)
    plain.cases(4, 10, 1)
    plain.cases(10, 10, 2)
    plain.cases(10, 10, 2)
    plain.say("found")
    lines = [line.split(" s  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "execute: running (1 of 8)",
        "execute: running (2 of 8)",
        "cases: 3 of 10 done, 1 failed",
        "cases: 10 of 10 done, 2 failed",
        "found",
    ]


def test_the_live_table_shows_stages_and_cases(monkeypatch):
    from rich.console import Console

    live = Live(0)
    live.row(Row(name="Kafka", state="starting"))
    live.row(Row(name="Kafka", state="ready"))
    live.row(Row(name="generate", state="success", detail="2 of 2", elapsed_s=4.2))
    live.cases(7, 20, 1)
    console = Console(width=100)
    with console.capture() as caught:
        console.print(live._draw())
    live.close()
    live.close()
    shown = caught.get()
    assert "✓  Kafka" in shown
    assert "4.2 s" in shown
    assert "2 of 2" in shown
    assert "7 of 20 cases" in shown
    assert "1 failed" in shown
