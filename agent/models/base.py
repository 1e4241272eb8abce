"""The one interface of every model: a request in, a stream of typed events out. A vendor is a row, not a class."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A call that the model asks for. `arguments` is parsed JSON, an object; anything else is `BadToolCall`."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatMessage:
    """One message of the context.

    role: `system`, `user`, `assistant`, `tool`. `calls` only for assistant, `call_id` and `name` only for tool.
    """

    role: str
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolDefinition:
    """A tool as the model sees it; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spender:
    """For whom a call is made: what usage and monthly limits are kept by. `person` as in a tool's context."""

    tenant: str
    bot: str = ""
    person: str = ""
    job_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRequest:
    """What is asked of a model.

    Attributes:
        deadline: seconds for the whole answer, retries included.
        first_token: seconds until something must have arrived.
        stall: seconds that may pass between two pieces of the answer.
        retry_within: seconds after which no further try of the same model begins.
        spender: whose usage this is; None is not recorded.
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolDefinition, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    deadline: float = 120.0
    first_token: float = 60.0
    stall: float = 30.0
    retry_within: float = 60.0
    user: str = ""
    spender: Spender | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TextDelta:
    """Text for the person. Never holds think-tags or tool markup."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Thinking:
    """The model reasons; its thoughts are not shown. `chars` so far."""

    chars: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Retracted:
    """Text handed out so far turned out to be a thought; it is void. The chain tells it as `Switched`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadToolCall:
    """The model's call cannot be run: its arguments are no JSON object, too large, or cut. Told to the model."""

    id: str
    name: str
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """The end of an answer; always the last event.

    Attributes:
        stop: `end`, `tools`, `length` (cut by the token limit), `filtered` (content refused by the vendor).
        estimated: True where the vendor reported no token counts and ours are an estimate.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    bad_calls: tuple[BadToolCall, ...] = ()
    stop: str = "end"
    tokens_in: int = 0
    tokens_out: int = 0
    estimated: bool = False
    model: str = ""
    first_token_ms: int = 0
    total_ms: int = 0


ModelEvent = TextDelta | Thinking | Completed


class Model(Protocol):
    """A model ready to be called. Raises only `storage.errors` types:

    Throttled `model.throttled` (429), Rejected `model.key` (401/403), `model.quota` (402, no balance), `model.unknown`
    (404), `model.address`, `model.not_api` (a web page answered), `model.context` (too long), `model.filtered` (content
    refused), `model.bad_request`; Unavailable `model.down` (5xx), `model.dns`, `model.connect`, `model.tls`,
    `model.timeout` (first token, stall, deadline), `model.broken` (cut or malformed stream), `model.empty` (no answer).
    """

    name: str
    context_tokens: int

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent | Retracted, None]:
        """Call the model. Text arrives as it is made; the last event is `Completed`.

        Retries with jitter inside the deadline, but only while no text has been handed out.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelChoice:
    """A model that the router picked, with its name for people, e.g. `deepseek/deepseek-chat`.

    Attributes:
        price_in, price_out: CNY for a million tokens.
        extra: `fallback` (may take over), `patience` (seconds to the first word while another could take over),
            `max_tokens` (the provider's own limit).
    """

    ref: str
    provider: str
    model: Model
    demo: bool = False
    price_in: float = 0.0
    price_out: float = 0.0
    extra: dict[str, str] = field(default_factory=dict)


class Router(Protocol):
    """Decides which model answers."""

    def chain(self, tenant: str, wanted: str = "") -> list[ModelChoice]:
        """Models to try, best first. `wanted` is a ref or empty. Empty list: none is configured."""
        ...
