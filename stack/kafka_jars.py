"""Kafka's jars from Maven Central, fetched once by mvn, or by jgo from PyPI."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from stack import PROJECT
from testops_lib.errors import StackError

VERSION = "4.3.1"
COORDINATES = (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-simple:1.7.36")

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>testops</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>{}</dependencies></project>"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def default_libs() -> Path:
    """Where the jars are kept: `TESTOPS_KAFKA_LIBS`, else the project's cache."""
    folder = os.environ.get("TESTOPS_KAFKA_LIBS", "")
    return Path(folder) if folder else PROJECT / ".testops" / "cache" / f"kafka-{VERSION}"


def fetch(libs: Path) -> str:
    """The class path of Kafka's jars in `libs`, downloaded from Maven Central if they are not there yet.

    Several processes may ask at once: one fetches, the others wait.

    Raises:
        StackError: nothing to fetch with, no network, or other versions than asked for came.
    """
    if not libs.exists():
        libs.parent.mkdir(parents=True, exist_ok=True)
        with libs.with_name(f"{libs.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not libs.exists():
                part = libs.with_name(f"{libs.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                _download(part)
                part.rename(libs)
    return os.pathsep.join(sorted(str(jar) for jar in libs.glob("*.jar")))


def _download(folder: Path) -> None:
    jgo = shutil.which("jgo", path=str(Path(sys.executable).parent)) or shutil.which("jgo")
    scratch = folder.with_name(f"{folder.name}.scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        if maven := shutil.which("mvn"):
            pom = scratch / "pom.xml"
            pom.write_text(POM.format("".join(DEPENDENCY.format(*jar.split(":")) for jar in COORDINATES)))
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
            _fetch_with([maven, "-q", "-B", "-ntp", "-f", str(pom), *goal])
        elif jgo:
            places = ["--repo-cache", str(scratch / "m2"), "--cache-dir", str(scratch / "env")]
            _fetch_with(
                [jgo, "--resolver", "python", "--links", "copy", *places, "info", "jars", "+".join(COORDINATES)]
            )
            for jar in (scratch / "env").rglob("*.jar"):
                shutil.copyfile(jar, folder / jar.name)
        else:
            raise StackError(
                "Kafka's jars are not here, and neither mvn nor jgo is",
                where=str(folder.parent),
                next_step="`make setup` installs jgo from PyPI",
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    # A resolver that gets dependency management wrong mixes versions, and the broker fails in obscure ways.
    for name in ("kafka-clients", "kafka-server", "kafka-metadata"):
        if not (folder / f"{name}-{VERSION}.jar").exists():
            came = ", ".join(jar.name for jar in folder.glob(f"{name}-*.jar")) or "none"
            raise StackError(f"{name} {VERSION} was asked for, {came} came", where="Maven Central")


def _fetch_with(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise StackError(
            f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-1500:]}",
            where="Maven Central",
            next_step=f"check the network, or put the jars into {default_libs()} (or TESTOPS_KAFKA_LIBS) yourself",
        )
