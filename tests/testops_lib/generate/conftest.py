from __future__ import annotations

import pytest

from testops_lib.generate import Generated
from testops_lib.generate.rules import generate
from testops_lib.spec import Spec
from tests.testops_lib.generate.documents import ALL, shop_document


@pytest.fixture(scope="session")
def shop() -> Spec:
    return shop_document()


@pytest.fixture(scope="session")
def made(shop: Spec) -> Generated:
    return generate(shop, policy=ALL, identities=("main", "spare"))
