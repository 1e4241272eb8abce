"""Known model services: address, models to begin with, where the key is found. Domestic ones first."""

from __future__ import annotations

from dataclasses import dataclass

from agent.models.provider import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A service to choose from. Texts: `preset.<name>` and `preset.<name>.where` (how to get a key).

    Attributes:
        models: examples; the form can ask the service for its whole list.
        console: page on which a key is made; empty where none is needed.
        key: `needed`, `optional` or `none`.
    """

    name: str
    type: str = "openai"
    endpoint: str = ""
    models: tuple[ModelSpec, ...] = ()
    console: str = ""
    key: str = "needed"
    local: bool = False


def _models(*names: tuple[str, int]) -> tuple[ModelSpec, ...]:
    return tuple(ModelSpec(name=name, context=context) for name, context in names)


PRESETS: tuple[Preset, ...] = (
    Preset(
        name="deepseek",
        endpoint="https://api.deepseek.com/v1",
        models=_models(("deepseek-v4-flash", 128_000), ("deepseek-v4-pro", 128_000)),
        console="https://platform.deepseek.com/api_keys",
    ),
    Preset(
        name="qwen",
        endpoint="https://dashscope.aliyuncs.com/compatible-mode/v1",
        models=_models(("qwen-plus", 128_000), ("qwen-max", 32_000), ("qwen-flash", 128_000)),
        console="https://bailian.console.aliyun.com/?tab=model#/api-key",
    ),
    Preset(
        name="kimi",
        endpoint="https://api.moonshot.cn/v1",
        models=_models(("kimi-k2.6", 128_000), ("kimi-k3", 128_000)),
        console="https://platform.moonshot.cn/console/api-keys",
    ),
    Preset(
        name="glm",
        endpoint="https://open.bigmodel.cn/api/paas/v4",
        models=_models(("glm-5.2", 128_000), ("glm-4.7-flash", 128_000)),
        console="https://open.bigmodel.cn/usercenter/apikeys",
    ),
    Preset(
        name="doubao",
        endpoint="https://ark.cn-beijing.volces.com/api/v3",
        models=_models(("doubao-seed-2-1-pro-260628", 128_000), ("doubao-seed-2-0-lite-260428", 128_000)),
        console="https://console.volcengine.com/ark/region:ark+cn-beijing/apiKey",
    ),
    Preset(
        name="minimax",
        endpoint="https://api.minimaxi.com/v1",
        models=_models(("MiniMax-M3", 128_000)),
        console="https://platform.minimaxi.com/user-center/basic-information/interface-key",
    ),
    Preset(
        name="siliconflow",
        endpoint="https://api.siliconflow.cn/v1",
        models=_models(("deepseek-ai/DeepSeek-V4-Flash", 128_000), ("Qwen/Qwen3-32B", 32_000)),
        console="https://cloud.siliconflow.cn/account/ak",
    ),
    Preset(
        name="openai",
        endpoint="https://api.openai.com/v1",
        models=_models(("gpt-5.5", 128_000), ("gpt-5.5-mini", 128_000)),
        console="https://platform.openai.com/api-keys",
    ),
    Preset(
        name="anthropic",
        type="anthropic",
        endpoint="https://api.anthropic.com",
        models=_models(("claude-sonnet-5", 200_000), ("claude-opus-5", 200_000)),
        console="https://console.anthropic.com/settings/keys",
    ),
    Preset(
        name="ollama",
        type="ollama",
        endpoint="http://127.0.0.1:11434",
        models=_models(("qwen3:8b", 32_000)),
        key="none",
        local=True,
    ),
    Preset(name="vllm", endpoint="http://127.0.0.1:8000/v1", key="optional", local=True),
    Preset(name="custom", key="optional"),
    Preset(name="demo", type="demo", models=_models(("demo", 32_000)), key="none", local=True),
)


def preset(name: str) -> Preset | None:
    """The preset of that name."""
    return next((item for item in PRESETS if item.name == name), None)
