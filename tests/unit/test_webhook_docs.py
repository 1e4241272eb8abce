"""The signing code in the documentation is accepted by the code."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from channels.webhook.proof import verify
from tests.rules.reading import ROOT

SECRET, BODY = "a-shared-secret-of-some-length", '{"alert":"磁盘满"}'


@pytest.mark.parametrize("page", ["hooks.md", "hooks.zh-CN.md"])
def test_documented_signatures_are_accepted(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 2
    for block, scheme, body in zip(blocks, ("hmac", "document"), (BODY.encode(), BODY), strict=True):
        space: dict[str, Any] = {}
        exec(block, space)
        headers = {name.lower(): value for name, value in space["headers"](SECRET, body).items()}
        assert verify(scheme, SECRET, headers, BODY.encode(), time.time_ns() // 1_000_000)
