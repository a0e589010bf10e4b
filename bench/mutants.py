"""`python -m bench.mutants [module…]`: what share of small changes to the core its own tests notice.

mutmut changes one expression of one function at a time (`<` to `<=`, `and` to `or`, an argument to None, …) and runs
the tests that reach the function; a change that no test notices survives. The work happens in `.testops/mutants`, on a
copy of the library and of the core's own tests.

Survivors that are known to be harmless stand in mutants.toml beside this file, with the reason. The others are listed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec.toml
from msgspec import Struct

MUTMUT: Final = "mutmut==3.8.1"
ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / ".testops" / "mutants"
REASONS: Final = Path(__file__).with_suffix(".toml")
GOAL: Final = 85
"""Percent caught."""

CORE: Final = {
    "verdict": ("tests/testops_lib/verdict",),
    "redact": ("tests/testops_lib/test_redact.py",),
    "suite.merge": ("tests/testops_lib/suite/test_merge.py",),
}
"""Module or room of testops_lib -> its own tests."""

SAMPLED: Final = "3816054927"
"""Last digits of the mutants' numbers, in the order in which tenths of them are tried."""

NOT_THE_CORE: Final = ("differential", "response_times", "transfers", "volatile", "repetition")
"""Modules of `verdict` beside the judging of answers, the gate, fingerprints and the analysis."""

CONFTEST: Final = '''"""Fewer examples: each mutant runs the tests anew."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "mutants", max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("mutants")
'''

DIFFS: Final = """
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
print(json.dumps({name: get_diff_for_mutant(name) for name in sys.argv[1:]}))
"""

_CAUGHT: Final = ("killed", "timeout", "segfault", "suspicious", "caught by type check")
_NAME: Final = re.compile(r"^(?P<module>.+)\.(?P<function>x[_ǁ].+)__mutmut_\d+$")


class Mutant(Struct, frozen=True, kw_only=True):
    """One changed expression, and what became of it."""

    module: str
    """Below testops_lib, `verdict.gate`."""
    function: str
    status: str
    change: str
    """Removed and added lines, in one line: `a < b -> a <= b`."""

    @property
    def place(self) -> str:
        return f"{self.module}.{self.function}"

    @property
    def caught(self) -> bool:
        return self.status in _CAUGHT


class Reason(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a change that no test notices is harmless."""

    where: str
    """As `Mutant.place`."""
    change: str
    """A part of `Mutant.change`."""
    why: str


class Reasons(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    survivor: tuple[Reason, ...] = ()


def main() -> int:
    """Prints a line for each module, and every survivor without a reason; 1 when less than the goal is caught."""
    parser = argparse.ArgumentParser("python -m bench.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="such as verdict.gate or redact; all of the core when none is given")
    parser.add_argument("--keep", action="store_true", help="go on where the last pass ended; only what changed runs")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tenths", type=int, default=10, help="how many tenths of the mutants to try (default: all)")
    args = parser.parse_args()
    modules = args.modules or list(core_modules())
    if unknown := set(modules) - set(core_modules()):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(core_modules())}")
    if not args.keep:
        shutil.rmtree(FOLDER, ignore_errors=True)
    tool = installed()
    prepare(modules)
    digits = SAMPLED[: args.tenths]
    patterns = [f"testops_lib.{module}.*[{digits}]" for module in modules] if args.modules or args.tenths < 10 else []
    mutmut(tool, "run", "--max-children", str(args.jobs), *patterns)
    return report(list(mutants(tool, modules, digits)))


def core_modules() -> Iterator[str]:
    """The modules that are mutated."""
    for name in CORE:
        folder = ROOT / "testops_lib" / name.replace(".", "/")
        if not folder.is_dir():
            yield name
            continue
        for path in sorted(folder.glob("[!_]*.py")):
            if path.stem not in NOT_THE_CORE:
                yield f"{name}.{path.stem}"


def installed() -> Path:
    """The Python that has mutmut beside all of this environment; set up when first needed."""
    folder = ROOT / ".testops" / "mutmut"
    python = folder / "bin" / "python"
    if not python.exists():
        own = Path(sys.executable).parent
        site = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        subprocess.run([own / "uv", "pip", "install", "--quiet", "--python", python, MUTMUT], check=True)
        packages = next((folder / "lib").glob("python*/site-packages"))
        (packages / "project.pth").write_text(f"{site}\n")
    return python


def prepare(modules: Iterable[str]) -> None:
    """A copy of the library and of the tests, with settings that name what is mutated."""
    skipped = shutil.ignore_patterns("__pycache__", "test_response_times.py")
    library = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "testops_lib", FOLDER / "testops_lib", ignore=library, dirs_exist_ok=True)
    shutil.rmtree(FOLDER / "tests", ignore_errors=True)
    tests = sorted({test for name, paths in CORE.items() for test in paths if any(m.startswith(name) for m in modules)})
    for test in tests:
        copy = FOLDER / test
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / test).is_dir():
            shutil.copytree(ROOT / test, copy, ignore=skipped)
        else:
            shutil.copy(ROOT / test, copy)
    (FOLDER / "tests" / "conftest.py").write_text(CONFTEST)
    files = ", ".join(f'"testops_lib/{module.replace(".", "/")}.py"' for module in core_modules())
    (FOLDER / "pyproject.toml").write_text(
        f"""[tool.mutmut]
source_paths = ["testops_lib"]
only_mutate = [{files}]
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:timeout", "-p", "no:cov", "-k", "not memory and not hostile"]
[tool.pytest.ini_options]
pythonpath = ["."]
"""
    )


def mutmut(python: Path, *args: str) -> str:
    """The output of one of its commands."""
    return call(python, "-m", "mutmut", *args)


def call(python: Path, *args: str) -> str:
    """The output of Python in the folder of the mutants."""
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [python, *args], cwd=FOLDER, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def mutants(python: Path, modules: Collection[str], digits: str = SAMPLED) -> Iterator[Mutant]:
    """All that were tried, with the changes of those that survived; their numbers end in one of the digits."""
    lines = mutmut(python, "results", "--all", "true").splitlines()
    statuses = [
        (match, status)
        for name, _, status in (line.strip().rpartition(": ") for line in lines)
        if (match := _NAME.match(name))
        and name[-1] in digits
        and status != "not checked"
        and match["module"].removeprefix("testops_lib.") in modules
    ]
    survivors = [match[0] for match, status in statuses if status not in _CAUGHT]
    diffs = json.loads(call(python, "-c", DIFFS, *survivors))
    for match, status in statuses:
        yield Mutant(
            module=match["module"].removeprefix("testops_lib."),
            function=match["function"].removeprefix("x_").removeprefix("xǁ").replace("ǁ", "."),
            status=status,
            change=_change(diffs[match[0]]) if match[0] in diffs else "",
        )


def _change(diff: str) -> str:
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    before, after = (
        " ".join(line[1:].strip() for line in lines if line.startswith(sign)).strip() for sign in ("-", "+")
    )
    return f"{before} -> {after}"


def _explained(mutant: Mutant, reasons: Iterable[Reason]) -> bool:
    return any(mutant.place == reason.where and reason.change in mutant.change for reason in reasons)


def report(tried: list[Mutant]) -> int:
    """Prints the figures; 1 below the goal."""
    reasons = msgspec.toml.decode(REASONS.read_bytes(), type=Reasons).survivor
    counts: dict[str, Counter[str]] = {}
    for mutant in tried:
        kind = "caught" if mutant.caught else "explained" if _explained(mutant, reasons) else "survived"
        counts.setdefault(mutant.module, Counter())[kind] += 1
    print(f"{'module':28}{'mutants':>8}{'caught':>8}{'share':>8}   survivors with a reason, and without")
    for module, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        share = 100 * count["caught"] / max(1, count.total())
        print(
            f"{module:28}{count.total():8}{count['caught']:8}{share:7.1f}%   {count['explained']}, {count['survived']}"
        )
    for mutant in tried:
        if not mutant.caught and not _explained(mutant, reasons):
            print(f"{mutant.status}: {mutant.place}: {mutant.change}")
    return int(sum(mutant.caught for mutant in tried) < GOAL / 100 * len(tried))


if __name__ == "__main__":
    sys.exit(main())
