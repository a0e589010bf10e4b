"""`python -m runner.health`: 0 when the container's runner is well, 1 when not. For the image's HEALTHCHECK.

A runner that executes one batch is well while it runs. A fleet runner is asked for `/live`.
"""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from testops_lib.launch.runner import FLEET_PORT


def port(command: Sequence[str]) -> int:
    """Where the fleet runner with this command line answers; 0: it is none."""
    words = [word for argument in command for word in argument.split("=", 1)]
    if "--group" not in words:
        return 0
    return int(words[words.index("--port") + 1]) if "--port" in words else FLEET_PORT


def main(first: Path = Path("/proc/1/cmdline")) -> int:
    """The exit code, by the container's first process."""
    try:
        asked = port(first.read_bytes().decode("utf-8", "replace").split("\0"))
        if asked:
            # Without the environment's proxies: it is this container.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            opener.open(f"http://127.0.0.1:{asked}/live", timeout=5).close()
    except (OSError, ValueError, IndexError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
