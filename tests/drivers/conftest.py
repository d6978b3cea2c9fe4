# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import deployments
import pytest


@pytest.fixture(scope="module", autouse=True)
def every_weir_ends_well():
    yield
    deployments.wait_for_ends()
