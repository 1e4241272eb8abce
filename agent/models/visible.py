"""What of a model's text a person may see: think-tags, chat-template tokens and tool markup are taken out.

Works on a stream that is cut anywhere. Code survives: what stands in a fenced block or between backticks is shown
as it is. Known forms: `<think>` and kin, Hermes/Qwen/GLM `<tool_call>`, Claude-like `<function_calls>`, DeepSeek
`<｜tool▁calls▁begin｜>` and `<｜DSML｜…>`, Kimi `<|tool_calls_section_begin|>`, Harmony `<|channel|>analysis`,
Llama `<|python_tag|>`, Mistral `[TOOL_CALLS]`, MiniMax `<minimax:tool_call>`, Doubao `<seed:think>`.
"""

from __future__ import annotations

import re

THINK = ("think", "thinking", "thought", "reasoning", "seed:think")
TOOLS = (
    "tool_call",
    "tool_calls",
    "toolcall",
    "tool_code",
    "tool_use",
    "tool_response",
    "function_call",
    "function_calls",
    "function",
    "invoke",
    "minimax:tool_call",
    "seed:tool_call",
    "antml:function_calls",
    "antml:invoke",
    "use_mcp_tool",
)
NAMES = frozenset(THINK + TOOLS)
# These words are ordinary tags elsewhere; they count only with `=` or `name=` behind them.
ONLY_CALLING = frozenset({"function", "invoke", "antml:invoke"})
LONGEST_TAG = 240
LONGEST_CODE = 240
LONGEST_TOKEN = 48
MARK = "[TOOL_CALLS]"
MOST_ASSUMED = 400_000

_SPECIAL = re.compile(r"[<`~\[\n]")
_TAG = re.compile(r"<(/?)(?:[|｜]DSML[|｜])?([A-Za-z][A-Za-z0-9_]*(?::[a-z_]+)?)((?:[\s=/][^<>]*)?)>")
_TAG_BEGUN = re.compile(r"</?(?:[|｜](?:D|DS|DSM|DSML|DSML[|｜])?)?(?:([A-Za-z][A-Za-z0-9_:]*)(?:[\s=/][^<>]*)?)?\Z")
_TOKEN = re.compile(r"<[/]?[|｜]([\w▁:./-]{1,48})[|｜]>")
_TOKEN_BEGUN = re.compile(r"<[/]?(?:[|｜](?:[\w▁:./-]{0,48}[|｜]?)?)?\Z")
_WORDS = re.compile(r"</?[A-Za-z_:]+\s+[^\s=]+(?:\s|\Z)")
_THOUGHT_END = re.compile(r"</(?:think|thinking|thought|seed:think)\s*>", re.IGNORECASE)
_OPEN_END = re.compile(r"[<\[][^<>\s]{0,59}\Z")
_DSML = re.compile(r"<[|｜]DSML[|｜]")
_NAME = re.compile(
    r"""(?:"name"\s*:\s*"|name\s*=\s*"|function=|[|｜]tool▁sep[|｜]>|functions\.)([A-Za-z_][\w.-]{0,63})(?=[^\w.-])"""
)
ENDS = re.compile(r"<[|｜](?:im_end|eot_id|eom_id|end|end_of_turn|end▁of▁sentence|eos|return|call)[|｜]>")


def _prefixes() -> frozenset[str]:
    return frozenset(name[:n] for name in NAMES for n in range(1, len(name) + 1))


_PREFIXES = _prefixes()


class Visible:
    """Filters one answer. Feed it what the model says; it gives back what may be shown.

    Attributes:
        hidden: characters taken out, tags included.
        tools: markup of tool calls was taken out.
        tool_name: the name in that markup, where it could be read.
        void: a thought ended that never began (its opening tag stands in the model's own template): what was
            given back before is part of it. The caller takes note and resets it.

    Args:
        thinks_first: this model is known to begin inside a thought; nothing is given back until it ends.
    """

    def __init__(self, *, thinks_first: bool = False) -> None:
        self.hidden = 0
        self.tools = False
        self.void = False
        self._thought = self._clear = False
        self._assumed: list[str] | None = [] if thinks_first else None
        self._assumed_size = 0
        self.tool_name = ""
        self._rest = ""
        self._until: re.Pattern[str] | None = None
        self._keep_end = False
        self._fence = ""
        self._ticks = 0
        self._line = self._tail = ""
        self._shown = False

    def feed(self, text: str) -> str:
        """The visible part of `text` and of what was held back before."""
        if self._assumed is not None:
            text = self._wait_for_end(text)
        if not self._rest and self._until is None and not _SPECIAL.search(text):
            self._line = (self._line + text)[:8]
            return self._out(text)
        text, self._rest = self._rest + text, ""
        return self._out(self._scan(text, last=False))

    def finish(self) -> str:
        """What was held back and turned out to be harmless."""
        if self._assumed is not None:  # it did not think this time
            held, self._assumed = "".join(self._assumed), None
            return self.feed(held) + self.finish()
        rest, self._rest = self._rest, ""
        out = self._scan(rest, last=True)
        rest, self._rest = self._rest, ""
        if self._until is not None or len(rest) > 3:  # a tag that was cut: not for people
            self.hidden += len(rest)
            rest = ""
        return self._out(out + rest)

    def _wait_for_end(self, text: str) -> str:
        """Keep the assumed thought back; returns what stands behind its end."""
        held = self._assumed
        if held is None:
            return text
        held.append(text)
        self._assumed_size += len(text)
        tail = "".join([piece[-60:] for piece in held[-40:-1]] + [text])
        found = _THOUGHT_END.search(tail)
        if found is None and self._assumed_size <= MOST_ASSUMED and not "".join(held[:8]).lstrip().startswith("<think"):
            return ""
        self._assumed = None
        if found is None:  # the usual form after all, or too long to wait
            return "".join(held)
        self.hidden += self._assumed_size - (len(tail) - found.end())
        self._thought = True
        return tail[found.end() :]

    def _out(self, text: str) -> str:
        if not self._shown:
            text = text.lstrip()
            self._shown = bool(text)
        if text:
            self._tail = text[-60:] if len(text) >= 60 else (self._tail + text)[-60:]
        return text

    def _scan(self, text: str, *, last: bool) -> str:
        out: list[str] = []
        at = 0
        while at < len(text):
            if self._until is not None:
                at = self._skip(text, at)
                continue
            found = _SPECIAL.search(text, at)
            stop = found.start() if found else len(text)
            if stop > at:
                out.append(text[at:stop])
                self._line = (self._line + text[at:stop])[:8]
                at = stop
            if found is None:
                break
            ahead = self._special(text, at, out, last=last)
            if ahead < 0:
                self._rest = text[at:]
                break
            at = ahead
        return "".join(out)

    def _special(self, text: str, at: int, out: list[str], *, last: bool) -> int:
        """Handle the special character at `at`; where to go on, or -1 to wait for more text."""
        mark = text[at]
        if mark == "\n":
            out.append(mark)
            self._line, self._ticks = "", 0
            return at + 1
        if mark in "`~":
            return self._code(text, at, out, last=last)
        if self._fence:
            out.append(mark)
            self._line = (self._line + mark)[:8]
            return at + 1
        size = self._markup(text, at, last=last)
        if size < 0:
            return -1
        if size == 0:
            out.append(mark)
            self._line = (self._line + mark)[:8]
            return at + 1
        if self._ticks:
            return self._in_ticks(text, at, out, last=last)
        if self._clear:
            out.clear()
            self._clear = self._shown = False
            self._tail = ""
        elif _OPEN_END.search(self._recent(out)):
            out.append("…")  # what stands before and behind must not become a tag together
        self.hidden += size
        return at + size

    def _recent(self, out: list[str]) -> str:
        """The last characters that were given back or are about to be."""
        recent = ""
        for piece in reversed(out):
            recent = piece[-60:] + recent
            if len(recent) >= 60:
                return recent[-60:]
        return (self._tail + recent)[-60:]

    # --- code

    def _code(self, text: str, at: int, out: list[str], *, last: bool) -> int:
        mark = text[at]
        end = at
        while end < len(text) and text[end] == mark:
            end += 1
        if end == len(text) and not last and end - at < 40:
            return -1
        run = text[at:end]
        out.append(run)
        begins_line = not self._line.strip(" \t>-*+.0123456789")  # also inside lists and quotes
        if self._fence:
            if begins_line and run[0] == self._fence[0] and len(run) >= len(self._fence):
                self._fence = ""
        elif begins_line and len(run) >= 3:
            self._fence = run
        elif mark == "`":
            self._ticks = 0 if self._ticks == len(run) else self._ticks or len(run)
        self._line = (self._line + run)[:8]
        return end

    def _in_ticks(self, text: str, at: int, out: list[str], *, last: bool) -> int:
        """Markup behind an open backtick: shown only if the code is closed on the same line."""
        end = text.find("\n", at)
        span = text[at : end if end >= 0 else len(text)]
        close = re.search(rf"(?<!`)`{{{self._ticks}}}(?!`)", span)
        if close and (last or end >= 0 or close.end() < len(span)):
            out.append(span[: close.start()])
            return at + close.start()
        if not last and end < 0 and len(span) < LONGEST_CODE:
            return -1
        self._ticks = 0
        return at

    # --- markup

    def _markup(self, text: str, at: int, *, last: bool) -> int:
        """Length of the markup at `at`, 0 if it is ordinary text, -1 if more text is needed to tell.

        Beginning markup sets what to hide until, unless it stands in code.
        """
        if text[at] == "[":
            if text.startswith(MARK, at):
                return self._begin(MARK, ENDS, tools=True)
            return -1 if not last and MARK.startswith(text[at:]) else 0
        tag = _TAG.match(text, at)
        if tag:
            return self._tag(tag)
        token = _TOKEN.match(text, at)
        if token:
            return self._token(token, text)
        if last:
            return self._cut(text[at:])
        return -1 if self._may_become(text[at : at + LONGEST_TAG]) else 0

    def _cut(self, tail: str) -> int:
        """At the end of the stream: a tag that never closed is dropped, a lonely `<` is text."""
        if len(tail) <= 3 or _WORDS.match(tail):
            return 0
        return len(tail) if self._may_become(tail[:LONGEST_TAG]) else 0

    def _may_become(self, tail: str) -> bool:
        if len(tail) >= LONGEST_TAG:
            return False
        begun = _TAG_BEGUN.match(tail)
        if begun:
            name = (begun.group(1) or "").lower()
            whole = begun.end(1) == len(tail)
            if not name or (name in _PREFIXES if whole else name in NAMES):
                return True
        return bool(_DSML.match(tail) or _TOKEN_BEGUN.match(tail))

    def _tag(self, tag: re.Match[str]) -> int:
        closing, name, more = tag.group(1), tag.group(2).lower(), tag.group(3)
        dsml = bool(_DSML.match(tag.group(0).replace("/", "", 1)))
        if name not in NAMES and not dsml:
            return 0
        if name in ONLY_CALLING and not dsml and not (self.tools if closing else "=" in more):
            return 0
        size = len(tag.group(0))
        if closing or more.rstrip().endswith("/"):
            if name in THINK and closing and not self._thought and not self._ticks and not self._line.strip():
                self.void = self._thought = self._clear = True
            return size
        self._thought = self._thought or (name in THINK and not self._ticks)
        prefix = r"(?:[|｜]DSML[|｜])?"
        until = re.compile(rf"</{prefix}{re.escape(name)}\s*>", re.IGNORECASE)
        self._note(tag.group(0))
        return self._begin(tag.group(0), until, tools=name not in THINK)

    def _token(self, token: re.Match[str], text: str) -> int:
        name = token.group(1).lower().replace("▁", "_")
        size = len(token.group(0))
        if name == "channel":
            return self._begin_harmony(token, text)
        if name in ("start", "im_start", "start_header_id", "start_of_turn"):
            self._hide(re.compile(r"\n|<[|｜](?:message|end_header_id|channel)[|｜]>"), keep_end=name == "start")
            return size
        if "tool" in name or "function" in name or name == "python_tag":
            if name.endswith("end") or name.startswith("end"):
                return size
            until = ENDS
            if name.endswith("begin"):
                shape = re.escape(token.group(1)[: -len("begin")]) + "end"
                until = re.compile(rf"<[|｜]{shape}[|｜]>", re.IGNORECASE)
            return self._begin(token.group(0), until, tools=True)
        if name in ("begin_of_thought", "thinking", "think"):
            return self._begin(
                token.group(0), re.compile(r"<[|｜]/?(?:end_of_thought|thinking|think)[|｜]>"), tools=False
            )
        return size

    def _begin_harmony(self, token: re.Match[str], text: str) -> int:
        """`<|channel|>final<|message|>` opens visible text; every other channel is hidden to its end."""
        if self._ticks:
            return len(token.group(0))
        ahead = text[token.end() : token.end() + 200].lstrip()
        if ahead.startswith("final"):
            self._hide(re.compile(r"<[|｜]message[|｜]>"))
        elif "final".startswith(ahead[:5]) and len(ahead) < 5:
            return -1
        else:
            self.tools = self.tools or "functions." in ahead
            self._hide(re.compile(r"<[|｜](?:end|call|return|start|channel)[|｜]>"), keep_end=True)
        return len(token.group(0))

    def _begin(self, mark: str, until: re.Pattern[str], *, tools: bool) -> int:
        if not self._ticks:
            self._hide(until)
            self.tools = self.tools or tools
        return len(mark)

    def _hide(self, until: re.Pattern[str], *, keep_end: bool = False) -> None:
        if not self._ticks:
            self._until, self._keep_end = until, keep_end

    def _skip(self, text: str, at: int) -> int:
        """Skip hidden text; where visible text may begin again."""
        until = self._until
        end = until.search(text, at) if until is not None else None
        if end is None:
            keep = max(at, len(text) - LONGEST_TOKEN - 20)
            if self.tools:
                self._note(text[at:])
            self.hidden += keep - at
            self._rest = text[keep:]
            return len(text)
        if self.tools:
            self._note(text[at : end.end()])
        stop = end.start() if self._keep_end else end.end()
        self.hidden += stop - at
        self._until, self._rest = None, ""
        return stop

    def _note(self, text: str) -> None:
        if not self.tool_name and (found := _NAME.search(text)):
            self.tool_name = found.group(1)
