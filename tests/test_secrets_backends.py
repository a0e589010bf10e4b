"""Examples of Airflow's secrets backends: their options are the installed class's, and AWS's serves our connections."""

from __future__ import annotations

import ast
import configparser
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from stack.environment import package_index
from tests import s3_server
from tests.airflow_python import printed
from tests.rendering import SECRETS, pods
from tests.rendering import airflow as rendered_airflow
from tests.warm_python import WarmPython

PACKAGES = {
    "airflow.providers.hashicorp": "apache-airflow-providers-hashicorp",
    "airflow.providers.amazon": "apache-airflow-providers-amazon",
    "airflow.providers.google": "apache-airflow-providers-google",
}
CONNECTIONS = ("TESTOPS_STORE_CONN_ID", "TESTOPS_KAFKA_CONN_ID")


def backend(overlay: str) -> tuple[str, dict[str, Any]]:
    """The class and its options, as the rendered `airflow.cfg` names them."""
    maps = [manifest["data"] for manifest in rendered_airflow(overlay) if manifest["kind"] == "ConfigMap"]
    [text] = [data["airflow.cfg"] for data in maps if "airflow.cfg" in data]
    configuration = configparser.ConfigParser(interpolation=None)
    configuration.read_string(text)
    return configuration["secrets"]["backend"], json.loads(configuration["secrets"]["backend_kwargs"])


@pytest.mark.parametrize("overlay", SECRETS)
def test_every_component_reads_store_and_broker_from_connections(overlay: str) -> None:
    specifications = {name: pod["spec"] for name, pod in pods(rendered_airflow(overlay))}
    for component in ("scheduler", "triggerer", "api-server", "worker"):
        names = {
            variable["name"]: variable for variable in specifications[f"airflow-{component}"]["containers"][0]["env"]
        }
        assert {name: names[name]["value"] for name in CONNECTIONS} == {
            "TESTOPS_STORE_CONN_ID": "testops_store",
            "TESTOPS_KAFKA_CONN_ID": "testops_kafka",
        }
        assert "TESTOPS_DSN" not in names


@pytest.mark.long
@pytest.mark.parametrize("overlay", SECRETS)
def test_the_options_are_parameters_of_the_published_class(overlay: str, tmp_path: Path) -> None:
    """Read from the package's source: two of the providers are not installed here, and import much."""
    path, options = backend(overlay)
    module, _, name = path.rpartition(".")
    [package] = [package for prefix, package in PACKAGES.items() if module.startswith(prefix)]
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), package]
    subprocess.run(command, check=True, env=package_index(), capture_output=True, timeout=200)
    tree = ast.parse((tmp_path / f"{module.replace('.', '/')}.py").read_text("utf-8"))
    [declared] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    [init] = [node for node in declared.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    parameters = {argument.arg for argument in (*init.args.args, *init.args.kwonlyargs)}
    further = {"region_name"} if "amazon" in module else set()  # passed on to boto3
    assert options and options.keys() <= parameters | further


READ = """
import json
from testops_airflow.settings import read_settings
settings = read_settings()
print(json.dumps([settings.dsn, settings.kafka_bootstrap, settings.kafka_options]))
"""


@pytest.mark.airflow
def test_secrets_of_aws_are_read_as_the_guide_writes_them(airflow: WarmPython) -> None:
    path, options = backend("production+secrets-aws")
    secrets = {
        "testops_store": "postgresql://testops:secret@postgres:5432/testops?sslmode=require",
        "testops_kafka": '{"conn_type": "kafka", "extra": {"bootstrap.servers": "kafka:9092", "client.id": "aws"}}',
    }
    with s3_server.serving() as server:
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        client = boto3.client("secretsmanager", endpoint_url=server.url, region_name=options["region_name"], **keys)
        for name, value in secrets.items():
            client.create_secret(Name=f"airflow/connections/{name}", SecretString=value)
        settings = printed(
            airflow,
            READ,
            AIRFLOW__SECRETS__BACKEND=path,
            AIRFLOW__SECRETS__BACKEND_KWARGS=json.dumps(options),
            AWS_ENDPOINT_URL=server.url,
            AWS_ACCESS_KEY_ID="any",
            AWS_SECRET_ACCESS_KEY="any",
            **{name: value for name, value in zip(CONNECTIONS, secrets, strict=True)},
        )
    assert settings == [
        "postgresql://testops:secret@postgres:5432/testops?sslmode=require",
        "kafka:9092",
        {"client.id": "aws"},
    ]
