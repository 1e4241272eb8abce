"""The rules of the demo model: from what was said and what tools have answered to the next act."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.models.base import ChatMessage, ModelRequest, ToolDefinition
from agent.models.demo_phrases import (
    ABOUT,
    ALL_ABOUT,
    CLOCK,
    CODE,
    DOCUMENT,
    HELLO,
    LIST,
    MEMORY,
    QUESTION,
    READ,
    RECALL,
    REMEMBER,
    REMIND,
    SCHEDULE,
    STOP_EN,
    STOP_ZH,
    SWAP_EN,
    TABLE,
    THANKS,
    TOPIC,
    URL,
    WHEN,
    WRITE,
    ZONES,
)
from agent.models.sums import sum_in


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """Call tools: pairs of name and arguments."""

    calls: tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Say:
    """Answer with a text of the catalogue. `raw` is appended as it is."""

    key: str
    params: dict[str, object] = field(default_factory=dict)
    raw: str = ""


Act = Use | Say


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What a rule may look at.

    Attributes:
        results: answers of tools since the question, as (name, text), in order.
        rounds: how often tools were called since the question.
        memories: lines recalled for this message.
        documents: passages recalled for it, as (file and place, text).
    """

    question: str
    lang: str
    results: tuple[tuple[str, str], ...]
    rounds: int
    memories: tuple[str, ...]
    documents: tuple[tuple[str, str], ...]
    tools: dict[str, ToolDefinition]

    def result(self, name: str) -> str | None:
        """The last answer of a tool, or None if it was not called."""
        return next((text for tool, text in reversed(self.results) if tool == name), None)


def read_scene(request: ModelRequest) -> Scene:
    """The scene of a request: its last question and what happened since."""
    place = max((n for n, m in enumerate(request.messages) if m.role == "user" and not _notice(m)), default=-1)
    question = request.messages[place].text if place >= 0 else ""
    after = request.messages[place + 1 :]
    names = {call.id: call.name for m in after for call in m.calls}
    results = tuple((m.name or names.get(m.call_id, ""), _inner(m.text)) for m in after if m.role == "tool")
    system = "\n".join(m.text for m in request.messages if m.role == "system")
    chinese = any("\u3400" <= ch <= "\u9fff" for ch in question)
    letters = any(ch.isascii() and ch.isalpha() for ch in question)
    lang = "zh_CN" if chinese or (not letters and any("\u3400" <= ch <= "\u9fff" for ch in system)) else "en"
    return Scene(
        question=question.strip(),
        lang=lang,
        results=results,
        rounds=sum(1 for m in after if m.calls),
        memories=tuple(MEMORY.findall(system)),
        documents=tuple(DOCUMENT.findall(system)),
        tools={tool.name: tool for tool in request.tools},
    )


def _notice(message: ChatMessage) -> bool:
    return message.text.startswith("[tool call ")


def _inner(text: str) -> str:
    """A result without the lines that label it as outside text."""
    lines = text.splitlines()
    if len(lines) > 2 and lines[0].startswith("[") and lines[-1].startswith("[/"):
        lines = lines[1:-1]
    return "\n".join(lines)


def failed(result: str) -> bool:
    """True if a tool reported a failure."""
    return result.startswith("[failed]")


# --- rules, in the order in which they are asked


def remember(scene: Scene) -> Act | None:
    found = REMEMBER.match(scene.question)
    if not found or (QUESTION.search(scene.question) and found.group("zh") is None):
        return None
    fact = (found.group("zh") or found.group("en")).strip()
    if fact.endswith(("吗", "吗？", "吗?")):
        return None
    result = scene.result("remember")
    if result is not None:
        return (
            Say(key="demo.tool_failed", params={"why": result})
            if failed(result)
            else Say(key="demo.remembered", params={"fact": to_you(fact, scene.lang)})
        )
    if "remember" not in scene.tools:
        return Say(key="demo.no_memory")
    return Use(calls=(("remember", {"text": fact}),))


def clock(scene: Scene) -> Act | None:
    if not CLOCK.search(scene.question):
        return None
    result = scene.result("time")
    if result is not None:
        return (
            Say(key="demo.tool_failed", params={"why": result})
            if failed(result)
            else Say(key="demo.time", params={"now": result})
        )
    if "time" not in scene.tools:
        return None
    zone = next((z for names, z in ZONES.items() if re.search(names, scene.question, re.I)), "Asia/Shanghai")
    return Use(calls=(("time", {"zone": zone}),))


def recall(scene: Scene) -> Act | None:
    if not RECALL.search(scene.question):
        return None
    everything = bool(ALL_ABOUT.search(scene.question))
    found = fitting(scene.question, scene.memories, everything=everything)
    result = scene.result("recall")
    if not found and result is None and "recall" in scene.tools:
        return Use(calls=(("recall", {"query": scene.question[:500]}),))
    if not found and result is not None and not failed(result):
        found = fitting(scene.question, tuple(MEMORY.findall(result)), everything=everything)
    if not found:
        return Say(key="demo.not_remembered")
    told = [to_you(item, scene.lang) for item in found]
    if len(told) == 1:
        return Say(key="demo.recalled", params={"fact": told[0]})
    return Say(key="demo.recalled_many", raw="\n\n" + "\n".join(f"- {item}" for item in told))


def document(scene: Scene) -> Act | None:
    """A question that a passage of the knowledge base answers: the passage, with its file and place."""
    if not scene.documents or not QUESTION.search(scene.question):
        return None
    fit = fitting(scene.question, tuple(text for _, text in scene.documents))
    source = next((source for source, text in scene.documents if fit and text.rstrip("。.") == fit[0]), None)
    if source is None:
        return None
    return Say(key="demo.document", params={"source": source, "text": fit[0]})


def schedule(scene: Scene) -> Act | None:
    if not SCHEDULE.search(scene.question) or (QUESTION.search(scene.question) and not REMIND.search(scene.question)):
        return None
    result = scene.result("schedule")
    if result is not None:
        key = "demo.tool_failed" if failed(result) else "demo.scheduled"
        return Say(key=key, params={"why": result})
    if (tool := scene.tools.get("schedule")) and (arguments := _filled(tool, scene.question)) is not None:
        return Use(calls=(("schedule", arguments),))
    return Say(key="demo.schedule_where")


def fetch(scene: Scene) -> Act | None:
    found = URL.search(scene.question)
    if not found or "fetch" not in scene.tools:
        return None
    url, result = found.group(0), scene.result("fetch")
    if result is None:
        return Use(calls=(("fetch", {"url": url}),))
    if failed(result):
        return Say(key="demo.fetch_failed", params={"url": url, "why": result.removeprefix("[failed] ")})
    lines = [line.strip() for line in result.splitlines() if line.strip()]
    quoted = "\n".join(f"> {line[:200]}" for line in lines[:6])
    return Say(key="demo.fetched", params={"url": url, "size": len(result)}, raw=f"\n\n{quoted}")


def files(scene: Scene) -> Act | None:
    text = scene.question
    if (found := WRITE.search(text)) and "write_file" in scene.tools:
        groups = found.groupdict()
        name = next(groups[k] for k in ("name1", "name2", "name3", "name4") if groups[k])
        content = next(groups[k] for k in "abcd" if groups[k]).strip()
        return _after(scene, "write_file", {"name": name, "text": content}, "demo.written", name=name)
    if (found := READ.search(text)) and "read_file" in scene.tools:
        name = found.group("name")
        return _after(scene, "read_file", {"name": name}, "demo.read", show=True, name=name)
    if LIST.search(text) and "list_files" in scene.tools:
        return _after(scene, "list_files", {}, "demo.listed", show=True)
    return None


def _after(
    scene: Scene, tool: str, arguments: dict[str, Any], key: str, *, show: bool = False, **params: object
) -> Act:
    result = scene.result(tool)
    if result is None:
        return Use(calls=((tool, arguments),))
    if failed(result):
        return Say(key="demo.tool_failed", params={"why": result.removeprefix("[failed] ")})
    return Say(key=key, params=dict(params), raw=f"\n\n```\n{result[:4000]}\n```" if show else "")


def arithmetic(scene: Scene) -> Act | None:
    found = sum_in(scene.question)
    return Say(key="demo.sum", params={"sum": found[0], "value": found[1]}) if found else None


def table(scene: Scene) -> Act | None:
    return Say(key="demo.table") if TABLE.search(scene.question) else None


def code(scene: Scene) -> Act | None:
    return Say(key="demo.code") if CODE.search(scene.question) else None


def thanks(scene: Scene) -> Act | None:
    return Say(key="demo.welcome") if THANKS.search(scene.question) else None


def about(scene: Scene) -> Act | None:
    return Say(key="demo.about") if ABOUT.search(scene.question) else None


def hello(scene: Scene) -> Act | None:
    return Say(key="demo.hello") if HELLO.search(scene.question) else None


RULES: tuple[Callable[[Scene], Act | None], ...] = (
    clock,
    fetch,
    files,
    arithmetic,
    about,
    schedule,
    document,
    recall,
    table,
    code,
    thanks,
    hello,
)


def topic_of(question: str) -> str:
    """What a plan is for."""
    topic = TOPIC.sub("", question, count=1).strip(" 。.！!?？，,：:")
    return (topic or question)[:60]


def planned(scene: Scene, steps: tuple[str, str, str], note: str) -> Use | None:
    """The next act of a plan of three steps, or None when all is done. Two steps are real: the date, a file."""
    states = (("doing", "todo", "todo"), ("done", "doing", "todo"), ("done", "done", "doing"), ("done", "done", "done"))
    if scene.rounds >= len(states):
        return None
    items = [{"text": text, "state": state} for text, state in zip(steps, states[scene.rounds], strict=True)]
    calls: list[tuple[str, dict[str, Any]]] = [("plan", {"items": items})]
    if scene.rounds == 0 and "time" in scene.tools:
        calls.append(("time", {"zone": "Asia/Shanghai"}))
    if scene.rounds == 2 and "write_file" in scene.tools:
        calls.append(("write_file", {"name": "plan.md", "text": note}))
    return Use(calls=tuple(calls))


# --- words


def fitting(question: str, lines: tuple[str, ...], *, everything: bool = False) -> list[str]:
    """Recalled lines that answer a question, best first: statements that share its topic."""
    topic = _topics(question)
    seen: dict[str, int] = {}
    for line in lines:
        found = REMEMBER.match(line)
        text = ((found.group("zh") or found.group("en")) if found else line).strip().rstrip("。.")
        if not found and QUESTION.search(line):
            continue
        score = sum(1 for word in topic if word in text.lower())
        if everything or (topic and score * 2 >= len(topic)):
            seen.setdefault(text, score)
    best = sorted(seen, key=lambda text: -seen[text])
    return best[:5] if everything else best[:1]


def _topics(question: str) -> set[str]:
    if any("\u3400" <= ch <= "\u9fff" for ch in question):
        plain = STOP_ZH.sub(" ", question)
        words = [word for word in plain.split() if word]
        pairs = {word[i : i + 2].lower() for word in words for i in range(max(1, len(word) - 1))}
        return pairs
    return {word for word in re.findall(r"[a-z0-9]+", question.lower()) if word not in STOP_EN}


def to_you(text: str, lang: str) -> str:
    """A statement of the person, said back to them."""
    if any("\u3400" <= ch <= "\u9fff" for ch in text):
        return text.replace("我们", "\0").replace("我", "你").replace("\0", "你们")
    words = [SWAP_EN.get(word.lower(), word) for word in text.split(" ")]
    said = " ".join(words)
    return said[:1].upper() + said[1:] if lang == "en" else said


def _filled(tool: ToolDefinition, question: str) -> dict[str, Any] | None:
    """Arguments of a scheduling tool from its own schema; None if a required one is beyond us."""
    found = WHEN.search(question)
    if not found:
        return None
    when = found.group(0).strip()
    what = re.sub(r"提醒我|remind me(?: to)?|帮我|请|定时", "", question.replace(when, "")).strip(" ，,。.") or question
    given = {name: when for name in ("when", "schedule", "time", "at")}
    given |= {name: what for name in ("what", "text", "prompt", "task", "title", "message")}
    given["name"] = what[:30]
    fields = tool.parameters.get("properties", {})
    if any(name not in given for name in tool.parameters.get("required", ())):
        return None
    return {name: value for name, value in given.items() if name in fields}
