"""`requests` sessions for what is not under test: Airflow's REST API, webhooks, health pages.

The API under test is called by `http.client` alone. `requests` is imported when a session is opened, so that runners
and DAG files never load it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def open_session(*, host: str) -> requests.Session:
    """A session for `host`; close it, or use it in a `with` statement.

    It trusts the same certificates as requests to targets. The environment's proxies apply, except to this machine.
    """
    import requests

    from testops_lib.http.tls import ca_file

    # At level DEBUG urllib3 logs the path of each request, and the path of a webhook is a secret.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
    session = requests.Session()
    session.trust_env = host not in LOOPBACK
    session.verify = ca_file(os.environ) or True
    # Without an `auth` of its own, a session replaces our Authorization header by an entry of ~/.netrc.
    session.auth = _keep
    return session


def _keep(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def reason(error: BaseException) -> str:
    """Why a request got no answer: the operating system's words, else the error's name. Holds no URL."""
    cause = error
    while following := cause.__cause__ or cause.__context__:
        cause = following
    return getattr(cause, "strerror", None) or type(cause).__name__
