"""`testops_regenerate`: cases of a target generated again, with an instruction for the models that write them.

Edits survive. Where the target asks for a review, what is new waits as drafts for its next run.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from testops_airflow.retries import DEFAULT_ARGS
from testops_lib import settings as configuration

SETTINGS = configuration.read()
LIST = {"type": ["array", "null"], "items": {"type": "string"}}

PARAMS = {
    "target": Param(
        type="string",
        enum=sorted(path.stem for path in SETTINGS.targets_dir.glob("*.yaml")) or ["no target file is there"],
        title="Target",
        description="Whose suite.",
    ),
    "operations": Param(
        None, **LIST, title="Operations", description="Everything of the operations that match a glob: GET /pets*"
    ),
    "cases": Param(None, **LIST, title="Cases", description="Or what replaces these cases, by id."),
    "sources": Param(
        None,
        type=["array", "null"],
        items={"type": "string", "enum": list(configuration.SOURCES)},
        examples=list(configuration.SOURCES),
        title="Sources",
        description="Empty: the target's.",
    ),
    "instruction": Param(
        None,
        type=["string", "null"],
        maxLength=2000,
        title="Instruction",
        description="What a model is asked besides, such as: think of returns. It changes none of its rules.",
    ),
}

GUIDE = """
Generates cases of a target again, with an instruction for the models that write them.

**To start it**: *Trigger*, choose the target, and name operations or cases. What people edited survives. Where the
target asks for a review, what is new waits as drafts for its next run; elsewhere the next run executes it.
"""


@dag(
    dag_id="testops_regenerate",
    schedule=None,
    catchup=False,
    params=PARAMS,
    max_active_runs=1,
    tags=["testops"],
    default_args=DEFAULT_ARGS,
    doc_md=GUIDE,
)
def testops_regenerate() -> None:
    """One task."""

    @task
    def regenerate() -> list[dict[str, Any]]:
        """Generates again; gives what came of it, by source."""
        import msgspec

        from testops_lib.run import editing as curate

        given = get_current_context()["params"]
        done = curate.regenerate(
            SETTINGS,
            given["target"],
            operations=given["operations"] or (),
            cases=given["cases"] or (),
            sources=given["sources"] or (),
            instruction=given["instruction"] or "",
        )
        return [msgspec.to_builtins(each) for each in done]

    regenerate()


testops_regenerate()
