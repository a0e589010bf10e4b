"""`testops_regenerate`: generates cases of a target again, with an instruction for the models that write them.

Edits survive. If the target asks for a review, new cases wait as drafts for its next run.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from testops_airflow.retries import DEFAULT_ARGS
from testops_airflow.settings import read_settings
from testops_lib import settings as configuration

SETTINGS = configuration.read()
LIST = {"type": ["array", "null"], "items": {"type": "string"}}

PARAMS = {
    "target": Param(
        type="string",
        enum=sorted(path.stem for path in SETTINGS.targets_dir.glob("*.yaml")) or ["no target file is there"],
        title="Target",
        description="The target whose cases are generated again.",
    ),
    "operations": Param(
        None, **LIST, title="Operations", description="All cases of operations that match a glob: GET /pets*"
    ),
    "cases": Param(None, **LIST, title="Cases", description="Or only these cases, by id."),
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
        description="What a model shall also consider, such as: think of returns. It cannot change the model's rules.",
    ),
}

GUIDE = """
Generates cases of a target again, with an instruction for the models that write them.

**To start it**: *Trigger*, choose the target, and name operations or cases. What people edited survives. If the
target asks for a review, new cases wait as drafts for its next run; otherwise its next run executes them.
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
        """Generates again; returns a summary for each source."""
        import msgspec

        from testops_lib.run import regenerate

        params = get_current_context()["params"]
        regenerations = regenerate.regenerate(
            read_settings(),
            params["target"],
            operations=params["operations"] or (),
            cases=params["cases"] or (),
            sources=params["sources"] or (),
            instruction=params["instruction"] or "",
        )
        return [msgspec.to_builtins(regeneration) for regeneration in regenerations]

    regenerate()


testops_regenerate()
