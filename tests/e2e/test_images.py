"""The images are as large as DEPLOYMENT.md says, on top of the base image, as the cluster's node counts them."""

from __future__ import annotations

import re
import time

import pytest

from tests.e2e.pods import BASE, Cluster
from tests.paths import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

STATED = re.compile(r"`(testops-\w+)` adds (\d+) MB")


def sizes(cluster: Cluster, name: str) -> dict[str, int]:
    """Tag -> bytes that each image of this name adds to the base."""
    [node] = cluster.get("nodes")["items"]
    all_bytes = {tag: entry["sizeBytes"] for entry in node["status"]["images"] for tag in entry["names"] or ()}
    return {tag: size - all_bytes[BASE] for tag, size in all_bytes.items() if f"/{name}:" in tag}


def is_as_stated(added: dict[str, int], name: str) -> None:
    stated = int(dict(STATED.findall((ROOT / "DEPLOYMENT.md").read_text("utf-8")))[name])
    for tag, size in added.items():
        assert abs(size / 1e6 - stated) <= 0.1 * stated, f"{tag} adds {size / 1e6:.0f} MB"


def test_the_runners_image_is_as_large_as_stated(cluster: Cluster, image: str) -> None:
    deadline = time.monotonic() + 120
    while image not in (added := sizes(cluster, "testops-runner")):
        assert time.monotonic() < deadline, "the node does not list the image"
        time.sleep(2)  # it counts its images now and then
    is_as_stated(added, "testops-runner")


def test_the_image_of_airflow_is_as_large_as_stated(cluster: Cluster) -> None:
    if not (added := sizes(cluster, "testops-airflow")):
        pytest.skip("testops-airflow has not been built on this cluster: image build testops-airflow:test .")
    is_as_stated(added, "testops-airflow")
