"""What Airflow's services owe to being forks of one process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

from tests.paths import ROOT

SCHEDULER = """
import os, socket, sys, time
sys.path.insert(0, sys.argv[1])
from stack import airflow_services
database, other = (socket.create_connection(("127.0.0.1", int(port))) for port in sys.argv[2:4])
airflow_services.keep_connections_to_oneself(int(sys.argv[2]))
worker = os.fork()
if worker == 0:
    other.sendall(b"still mine")
    database.sendall(b"harmless")
    time.sleep(60)
print(worker, flush=True)
time.sleep(60)
"""


def test_a_killed_schedulers_workers_do_not_hold_its_database_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as database, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [str(server.getsockname()[1]) for server in (database, other)]
        scheduler = subprocess.Popen(
            [sys.executable, "-c", SCHEDULER, str(ROOT), *ports], stdout=subprocess.PIPE, text=True
        )
        worker = 0
        try:
            with database.accept()[0] as to_database, other.accept()[0] as to_other:
                assert scheduler.stdout is not None
                worker = int(scheduler.stdout.readline())
                to_other.settimeout(20)
                assert to_other.recv(100) == b"still mine", "other connections of a fork are left alone"
                scheduler.kill()
                scheduler.wait()
                os.kill(worker, 0)
                to_database.settimeout(20)
                assert to_database.recv(100) == b"", "the database sees the end though a worker lives"
        finally:
            scheduler.kill()
            scheduler.wait()
            assert scheduler.stdout is not None
            scheduler.stdout.close()
            if worker:
                os.kill(worker, signal.SIGKILL)
