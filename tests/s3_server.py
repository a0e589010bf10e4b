"""A local server of the S3 protocol (moto's), and a connection of Airflow to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "reports"


class S3:
    """The server while it runs, with one bucket."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client: Any = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
        )
        self.client.create_bucket(Bucket=BUCKET)

    @property
    def connection(self) -> str:
        """Value of `AIRFLOW_CONN_…`."""
        extra = {"endpoint_url": self.url, "region_name": "us-east-1"}
        return json.dumps({"conn_type": "aws", "login": "any", "password": "any", "extra": extra})

    def get(self, key: str) -> bytes:
        """The object `key` of the bucket."""
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content


@contextmanager
def serving() -> Iterator[S3]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()
