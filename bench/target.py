"""A server that answers every request with the sample document: nginx where it is installed, else one of ours."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from bench.sample import DOCUMENT
from stack import HOST, ports
from testops_lib.launch.tied import tied

NGINX = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_requests 100000000; default_type application/json;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen {host}:{port} reuseport; location / {{ return 200 '{document}'; }} }}
}}
"""


@contextmanager
def serving(*, core: int | None = None, delay_s: float = 0) -> Iterator[tuple[str, str, int]]:
    """URL, kind (`nginx` or `uvloop`) and process id of a server of one process, on one core when one is given.

    With a delay each answer comes that much later, and the server is ours.
    """
    with TemporaryDirectory(prefix="testops-bench-") as folder:
        port = ports.pick()
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if nginx and not delay_s:
            written = NGINX.format(folder=folder, host=HOST, port=port, document=DOCUMENT.decode())
            (Path(folder) / "nginx.conf").write_text(written)
            command = [nginx, "-p", folder, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
        else:
            nginx, command = None, [sys.executable, "-m", "bench.target", str(port), str(delay_s)]
        child = subprocess.Popen(tied(command), stderr=subprocess.DEVNULL)
        try:
            if core is not None:
                os.sched_setaffinity(child.pid, {core % (os.cpu_count() or 1)})
            await_server(port, child)
            yield f"http://{HOST}:{port}", "nginx" if nginx else "uvloop", child.pid
        finally:
            child.terminate()
            child.wait(10)


def await_server(port: int, child: subprocess.Popen[bytes]) -> None:
    """Waits until the port answers.

    Raises:
        SystemExit: it does not, or the child has ended.
    """
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((HOST, port), 1).close()
            return
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the bench's target did not start") from None
            time.sleep(0.02)


class _Answering(asyncio.Protocol):
    """Answers each request's head; requests with bodies are beyond it."""

    ANSWER = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(DOCUMENT)
    ) + DOCUMENT

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport, self._rest = cast(asyncio.Transport, transport), b""  # uvloop's has another base class

    def data_received(self, data: bytes) -> None:
        """Writes one answer for each whole head."""
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        if heads and self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._transport.write, self.ANSWER * len(heads))
        elif heads:
            self._transport.write(self.ANSWER * len(heads))


async def _serve(port: int, delay_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Answering(delay_s), HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
