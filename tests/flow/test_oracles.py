"""The vendors' official SDKs as judges of our fakes and messages, where they are installed (see `tests/oracles`)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from storage.settings import ROOT

NEEDS = {
    "feishu_sdk": ("lark_oapi",),
    "dingtalk_sdk": ("dingtalk_stream", "alibabacloud_dingtalk"),
    "wecom_crypto": ("wechatpy",),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("oracle", NEEDS)
def test_the_official_sdk_agrees(oracle: str) -> None:
    lacking = [name for name in NEEDS[oracle] if importlib.util.find_spec(name) is None]
    if lacking:
        pytest.skip(f"heavy, installed by hand: {', '.join(lacking)}")
    command = [sys.executable, "-m", f"tests.oracles.{oracle}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
