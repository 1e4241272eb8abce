"""Runs a workflow: its steps in order, each recorded, so that a run that was cut off goes on where it was."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.schedules.blanks import fill, fill_all, fill_url, find, holds, text_of
from agent.schedules.steps import Call, Question, Step
from security.egress import ADMIN, Egress
from storage.errors import AppError, Rejected, Unavailable
from storage.runner import Interrupted, Work

MOST_RESULT = 400_000
MOST_KEPT = 60_000
MOST_LIST = 1_000

Ask = Callable[[Work, str], Awaitable[str]]
"""One question to the model, one text."""
Fresh = Callable[[Sequence[str]], Awaitable[set[str]]]
"""Which of these keys were not handled in an earlier run."""
Done = Callable[[str], Awaitable[None]]
"""A key was handled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a workflow says at the end. `failed` counts items that could not be handled."""

    text: str
    failed: int = 0
    handled: int = 0


@dataclass(slots=True)
class Workflow:
    """One run of one workflow.

    Args:
        name: stable name of the schedule, for the keys by which other systems drop what they have seen.
        values, secrets: what its blanks are filled with; secrets only in headers and bodies of calls.
        run: what is known of the run itself: `name`, `date`, `time`.
        explain: an error in the words of whoever reads the result.
        dry: calls that change something, and questions, are only shown.
    """

    work: Work | None
    egress: Egress
    ask: Ask
    fresh: Fresh
    done: Done
    name: str
    values: Mapping[str, str]
    secrets: Mapping[str, str]
    run: Mapping[str, str]
    explain: Callable[[AppError], str] = str
    dry: bool = False
    said: list[str] = field(default_factory=list)
    shown: list[tuple[str, str, str]] = field(default_factory=list)
    failed: int = 0
    handled: int = 0

    async def go(self, steps: Sequence[Step]) -> Told:
        """Run all steps.

        Raises:
            AppError: a step outside of a list failed; the steps before it stay done.
        """
        known: dict[str, object] = {"value": dict(self.values), "run": dict(self.run)}
        await self._all(steps, known, "")
        if self.failed and not self.handled:
            raise Rejected("schedule.items", failed=self.failed, output="\n".join(self.said)[-2_000:])
        text = "\n".join(part for part in self.said if part).strip()
        return Told(text=text, failed=self.failed, handled=self.handled)

    async def _all(self, steps: Sequence[Step], known: dict[str, object], place: str) -> None:
        for step in steps:
            if (step.when and not holds(step.when, known)) or (step.unless and holds(step.unless, known)):
                known[step.id] = {"left_out": True}
                continue
            if step.http is not None:
                known[step.id] = await self._call(step.id, step.http, known, place)
            elif (question := step.question) is not None:
                known[step.id] = await self._question(step.id, question, known, place)
            elif step.each is not None:
                known[step.id] = await self._each(step, known, place)
            elif step.say is not None:
                text = fill(step.say, known)
                self.said.append(text)
                known[step.id] = {"text": text}

    # ---- lists

    async def _each(self, step: Step, known: dict[str, object], place: str) -> dict[str, object]:
        found = find(known, (step.each or "").strip().strip("{} "))
        items = found[:MOST_LIST] if isinstance(found, list) else []
        keyed = [(fill(step.key, known | {"item": item}) if step.key else str(n), item) for n, item in enumerate(items)]

        async def pick() -> str:
            keys = [f"{step.id}:{key}" for key, _ in keyed]
            new = await self.fresh(keys) if step.key else set(keys)
            return json.dumps([key for key, _ in keyed if f"{step.id}:{key}" in new][: step.most])

        # what is left to do is written down first: items that this very run handles must not move the others
        chosen = set(json.loads(await self._recorded(f"{place}{step.id}", "plan", pick)))
        lines: list[str] = []
        count = failed = 0
        for key, item in keyed:
            if key not in chosen:
                continue
            chosen.discard(key)  # a list may name an item twice
            count += 1
            inner = known | {"item": item}
            try:
                await self._all(step.steps, inner, f"{place}{step.id}[{key[:60]}].")
            except Interrupted:
                raise
            except AppError as error:
                if error.code.startswith("db."):
                    raise
                failed += 1
                lines.append(f"✗ {key}: {self.explain(error)}"[:300])
                continue
            if step.line:
                lines.append(fill(step.line, inner))
            if step.key and not self.dry:
                await self.done(f"{step.id}:{key}")
        self.failed += failed
        self.handled += count - failed
        return {"count": count, "handled": count - failed, "failed": failed, "lines": "\n".join(lines)}

    # ---- calls and questions

    async def _call(self, name: str, call: Call, known: dict[str, object], place: str) -> dict[str, object]:
        url = fill_url(call.url, known)
        method = call.method.upper()
        sealed = known | {"secret": dict(self.secrets)}
        body = None if call.body is None else fill_all(call.body, sealed)
        request = f"{method} {url}"
        if call.body is not None:
            # what is recorded and shown never has secrets in it
            open_body = fill_all(call.body, known | {"secret": dict.fromkeys(self.secrets, "•••")})
            request += f"\n{json.dumps(open_body, ensure_ascii=False)[:4_000]}"
        if self.dry and not call.reads:
            self.shown.append((f"{place}{name}", "http", request))
            return {"status": 0, "json": None, "text": "", "dry": True}
        filled = {key.lower(): _line(fill(value, sealed)) for key, value in call.headers.items()}
        headers = {key: value for key, value in filled.items() if value}
        if not call.reads:
            headers.setdefault("idempotency-key", f"{self.name}-{self._stable(place)}{name}"[:200])

        async def act() -> str:
            return json.dumps(await self._exchange(method, url, headers, body, call.expect), ensure_ascii=False)

        repeatable = call.reads or call.idempotent
        raw = await self._recorded(f"{place}{name}", "tool", act, request=request, repeatable=repeatable)
        if self.dry:
            self.shown.append((f"{place}{name}", "http", f"{request}\n→ {raw[:2_000]}"))
        return dict(json.loads(raw))

    def _stable(self, place: str) -> str:
        """An item's place says the same in every run; what stands alone is told apart by its run."""
        return place if place else f"{self.run.get('at', '')}."

    async def _exchange(
        self, method: str, url: str, headers: dict[str, str], body: object, expect: int | None
    ) -> dict[str, object]:
        policy = replace(ADMIN, most_bytes=MOST_RESULT, seconds=60)
        answer = await self.egress.request(method, url, policy=policy, headers=headers or None, json=body)
        good = answer.status_code == expect if expect is not None else answer.status_code < 400
        text = answer.content.decode("utf-8", "replace")
        if not good:
            told = " ".join(text[:300].split())
            if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
                raise Unavailable("schedule.call_later", status=answer.status_code, said=told)
            raise Rejected("schedule.call_refused", status=answer.status_code, said=told)
        try:
            parsed: Any = json.loads(text) if text.strip() else None
        except ValueError:
            parsed = None
        kept = "" if parsed is not None else text[:MOST_KEPT]
        return {"status": answer.status_code, "json": parsed, "text": kept}

    async def _question(self, name: str, question: Question, known: dict[str, object], place: str) -> dict[str, object]:
        prompt = fill(question.prompt, known)
        if self.dry:
            self.shown.append((f"{place}{name}", "ask", prompt))
            return {"text": "", "json": {}, "dry": True}
        work = self.work
        if work is None:
            raise Unavailable("model.none")
        text = (await self._recorded(f"{place}{name}", "model", lambda: self.ask(work, prompt), request=prompt)).strip()
        if not question.wants_json:
            return {"text": text, "json": None}
        parsed = read_object(text)
        if parsed is None:
            raise Rejected("schedule.ask_json", said=text_of(text)[:200])
        return {"text": text, "json": parsed}

    async def _recorded(
        self, name: str, kind: str, act: Callable[[], Awaitable[str]], *, request: str = "", repeatable: bool = True
    ) -> str:
        if self.work is None:
            return await act()
        return await self.work.step(name[:120], kind, act, request=request, repeatable=repeatable)


def read_object(text: str) -> dict[str, object] | None:
    """The JSON object that a model was asked for, whatever it says around it."""
    plain = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.MULTILINE).strip()
    for begin in (0, plain.find("{")):
        if begin < 0:
            continue
        try:
            found, _ = json.JSONDecoder().raw_decode(plain[begin:])
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None


def _line(text: str) -> str:
    """A header's value: one line."""
    return " ".join(text.split())[:2_000]
