"""What a person says to memory itself: remember, forget, what do you know about me, that is wrong. In both languages.

Only plain requests are taken; whatever could be ordinary talk is left to the model, which has tools for the same.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, select, update

from agent.memory import rows as table
from agent.memory.base import MemoryScope
from agent.memory.forget import Forgetter, Preview, Wish
from agent.memory.newrow import FIRST_HAND, OURS, stated_value
from agent.memory.rows import memory_t
from agent.memory.statements import read_statement
from agent.memory.store import MemoryStore
from storage.words import Words

LISTED = 20
AT_ONCE = 5  # more than so many are shown and asked about before they go
PENDING_MS = 10 * 60 * 1000
MOST_PENDING = 1_000
LONGEST = 500

_POLITE = (
    r"(?:请你?|麻烦你?|帮我|帮忙|你要?|务必|一定要?|那就|好[，,]"
    r"|ok[, ]+|please |and |also |hey[, ]+|can you |could you )*"
)
_KEEP = re.compile(
    rf"^{_POLITE}(?:记住|记一下|记下来?|记着|要记得|请记得|别忘了|不要忘[记了]"
    r"|remember(?! (?:when|the time|me\b|how|what|who|where|why))|keep in mind|make a note|take note|don't forget)"
    r"(?:一下|了|哈|吧| that)?[，,:：\s]*(?P<what>.{2,})$",
    re.IGNORECASE | re.DOTALL,
)
_FORGET = re.compile(
    rf"^{_POLITE}(?:(?:忘记|忘掉|别再记得|不要再记得)(?:掉|吧)?|(?:删除|删掉|清除)(?=.*(?:记忆|记住|记得))"
    r"|忘了(?=关于|我[的说])|forget(?! it\b| about it\b| to\b))"
    r"(?:关于|有关| about| that| what i (?:said|told you) about)?\s*(?P<what>.+?)"
    r"(?:的(?:记忆|记录|事情?|信息|内容))?[吧了。.!！]*$",
    re.IGNORECASE | re.DOTALL,
)
_ALL = re.compile(
    r"^(?:关于)?(?:我|我的?(?:一切|所有.*|全部.*)|一切|所有.*|全部.*"
    r"|everything(?: about me| you know.*)?|me|all(?: about me)?)$",
    re.IGNORECASE,
)
_CONFIRM = re.compile(r"^\s*(?:确认忘记|确定忘记|confirm forget|yes,? forget)[。.!！\s]*$", re.IGNORECASE)
_ASK = re.compile(
    r"^(?:那|请问)?(?:你|关于我[，,]?你)(?:都|还|现在|到底)*(?:记得|记住了?|知道|了解)(?:了)?(?:关于|有关)?(?:我的?)?(?:哪些|什么|些什么|多少|哪些事情?)"
    r"(?:事情?|东西|信息)?[?？。]*$"
    r"|^你对我(?:都|还)?(?:了解|记得|知道)(?:多少|什么|些什么|哪些)[?？。]*$"
    r"|^what (?:do|can|did) you (?:remember|know|keep|have) (?:about|of|on) me[?.!]*$"
    r"|^what have you (?:remembered|kept)(?: about me)?[?.!]*$",
    re.IGNORECASE,
)
_WRONG = re.compile(
    r"^(?:不[，,。]\s*)?(?:(?:那|这)(?:个)?(?:是)?(?:错的|错了|不对的?|不是真的|不是这样的?)|你?(?:记|搞|弄|说)错了|不对|不是这样的?"
    r"|(?:no[,.]?\s*)?(?:that(?:'s| is| was)|you(?:'re| are))"
    r" (?:wrong|not right|not true|not correct|incorrect|mistaken|false))"
    r"(?:[，,。.!！;；:：\s]+(?P<right>.*))?$"
    r"|^no,\s+(?P<right_en>(?:my|i|it|the)\b.*)$",
    re.IGNORECASE | re.DOTALL,
)
_INSTEAD = re.compile(
    r"^(?:应该|其实)?(?:是|it(?:'s| is| was| should be))\s*(?P<v>[^，,。.!！]+)[。.!！]*$", re.IGNORECASE
)
_QUESTION = re.compile(r"[?？]\s*$|(?:吗|呢|什么|多少|没有|了没)[。\s]*$")


def meant(text: str) -> str:
    """What a text may ask of memory: `confirm`, `list`, `wrong`, `forget`, `keep`; empty for anything else.

    Quick, and without looking at anything.
    """
    plain = " ".join(text.split())
    if not plain or len(plain) > LONGEST:
        return ""
    for name, pattern in (("confirm", _CONFIRM), ("list", _ASK), ("wrong", _WRONG)):
        if pattern.match(plain):
            return name
    if _QUESTION.search(plain):
        return ""
    return "forget" if _FORGET.match(plain) else "keep" if _KEEP.match(plain) else ""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done: the confirmation, and whether something was removed for good."""

    text: str
    gone: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Speaker:
    """Who says it, and where: all that a confirmation and a kept fact need."""

    scope: MemoryScope
    message_id: int
    at: int
    label: str
    lang: str
    name: str = ""
    id: str = ""


@dataclass(slots=True)
class _Pending:
    wish: Wish
    until: int
    message_id: int


class SaidToIt:
    """Recognises and carries out. Gives the confirmation to send, or None: not meant for memory.

    Ask it before the message is kept as a turn, and keep it only if the answer is None: a request to forget must not
    be remembered, and what is to be remembered is kept as a fact.
    """

    def __init__(self, memory: MemoryStore, forgetter: Forgetter, words: Words) -> None:
        self.memory, self.forgetter, self.words = memory, forgetter, words
        self._pending: OrderedDict[tuple[MemoryScope, str], _Pending] = OrderedDict()

    async def answer(self, who: Speaker, text: str) -> str | None:
        """The confirmation of `act`."""
        done = await self.act(who, text)
        return None if done is None else done.text

    async def act(self, who: Speaker, text: str) -> Done | None:
        """Do what the text asks of memory. Safe to repeat for the same message."""
        plain, what = " ".join(text.split()), meant(text)
        if what == "confirm":
            return await self._confirmed(who)
        if what == "list":
            return Done(await self._list(who))
        if what == "wrong" and (found := _WRONG.match(plain)) is not None:
            said = await self._wrong(who, (found["right"] or found["right_en"] or "").strip())
            return None if said is None else Done(said)
        if what == "forget" and (found := _FORGET.match(plain)) is not None:
            return await self._forget(who, found["what"].strip())
        if what == "keep" and (found := _KEEP.match(plain)) is not None:
            return Done(await self._keep(who, found["what"].strip()))
        return None

    def _say(self, who: Speaker, key: str, **params: object) -> str:
        return self.words.say(who.lang, f"memory.said.{key}", **params)

    def _lines(self, who: Speaker, rows: Any) -> str:
        def day(at: int) -> str:
            return f"{datetime.fromtimestamp(at / 1000, self.memory.zone):%Y-%m-%d}"

        return "\n".join(
            "- " + self._say(who, "item", text=" ".join(row.text.split())[:120], date=day(row.at or 0)) for row in rows
        )

    # ---- keep

    async def _keep(self, who: Speaker, what: str) -> str:
        if who.label not in FIRST_HAND:
            return self._say(who, "outside")
        number = await self._remember(who, what)
        old = await self._replaced(who, number)
        if old:
            return self._say(who, "kept_instead", text=what, old=old)
        return self._say(who, "kept", text=what)

    async def _remember(self, who: Speaker, text: str) -> int:
        return await self.memory.remember(
            who.scope,
            text,
            at=who.at,
            source=f"message:{who.message_id}",
            label=who.label,
            speaker=who.name,
            speaker_id=who.id,
        )

    async def _replaced(self, who: Speaker, number: int) -> str:
        """What the new fact has taken the place of."""

        def fn(c: Connection) -> str:
            mine = and_(memory_t.c.tenant == who.scope.tenant, memory_t.c.superseded_by == number)
            newest = select(memory_t.c.text).where(mine).order_by(memory_t.c.at.desc()).limit(1)
            return str(c.execute(newest).scalar() or "")

        return await self.memory.db.read(fn)

    # ---- list

    async def _list(self, who: Speaker) -> str:
        store = await self.memory.own_store(who.scope)
        await self.memory.settle()

        def fn(c: Connection) -> list[Any]:
            facts = and_(memory_t.c.store_id == store, table.part_of("talk"), memory_t.c.speaker != OURS)
            known = and_(facts, (memory_t.c.kind != "turn") | (memory_t.c.attribute != ""))
            newest = select(memory_t).where(known).order_by(memory_t.c.at.desc()).limit(5 * LISTED)
            return list(c.execute(newest))

        rows = [] if store is None else await self.memory.db.read(fn)
        rows = _once(rows)[:LISTED]
        if not rows:
            return self._say(who, "list_none")
        return self._say(who, "list", items=self._lines(who, rows))

    # ---- forget

    async def _forget(self, who: Speaker, what: str) -> Done:
        if _ALL.match(what):
            everything = not who.scope.group
            wish = Wish(everything=True) if everything else Wish(ids=tuple(await self._own_in_group(who)))
            preview = await self.forgetter.preview(who.scope, wish)
            if not preview.total:
                return Done(self._say(who, "list_none"))
            return self._ask_first(who, wish, "forget_all", preview, what)
        wish = await self._meant(who, what)
        preview = await self.forgetter.preview(who.scope, wish)
        if not preview.total:
            return Done(self._say(who, "forgot_none", what=what))
        if preview.total > AT_ONCE:
            return self._ask_first(who, wish, "forget_many", preview, what)
        return self._forgot(who, await self.forgetter.forget(who.scope, wish))

    async def _meant(self, who: Speaker, what: str) -> Wish:
        """The rows that are about it: all its words, or by far the best of the facts."""
        hits = await self.memory.search(who.scope, what, limit=100, parts=("talk", "history"))
        ids = tuple(hit.id for hit in hits if hit.why.get("cover", 0) >= 0.6)
        this = await self._of(who.message_id, who.scope.tenant)
        return Wish(ids=tuple(i for i in ids if i not in this))

    async def _of(self, message_id: int, tenant: str) -> set[int]:
        mine = and_(memory_t.c.tenant == tenant, memory_t.c.message_id == message_id)
        return await self.memory.db.read(lambda c: {r.id for r in c.execute(select(memory_t.c.id).where(mine))})

    async def _own_in_group(self, who: Speaker) -> list[int]:
        store = await self.memory.own_store(who.scope)
        mine = and_(memory_t.c.store_id == store, memory_t.c.speaker_id == who.id, memory_t.c.speaker_id != "")
        return await self.memory.db.read(lambda c: [r.id for r in c.execute(select(memory_t.c.id).where(mine))])

    def _ask_first(self, who: Speaker, wish: Wish, key: str, preview: Preview, what: str) -> Done:
        while len(self._pending) >= MOST_PENDING:
            self._pending.popitem(last=False)
        self._pending[(who.scope, who.id)] = _Pending(wish, who.at + PENDING_MS, who.message_id)
        items = self._lines(who, preview.samples[:AT_ONCE])
        return Done(self._say(who, key, what=what, count=preview.total, items=items))

    async def _confirmed(self, who: Speaker) -> Done | None:
        pending = self._pending.pop((who.scope, who.id), None)
        if pending is None or who.at > pending.until:
            return None
        self.forgetter.later(who.scope.tenant, [pending.message_id])
        return self._forgot(who, await self.forgetter.forget(who.scope, pending.wish))

    def _forgot(self, who: Speaker, gone: Preview) -> Done:
        """The confirmation names what is gone; so it loses its words itself once it was sent."""
        self.forgetter.later(who.scope.tenant, [who.message_id])
        text = self._say(who, "forgot", count=gone.total, items=self._lines(who, gone.samples[:AT_ONCE]))
        return Done(text, gone=True)

    # ---- correct

    async def _wrong(self, who: Speaker, right: str) -> str | None:
        if who.label not in FIRST_HAND:
            return None
        old = await self._doubted(who, right)
        if old is None:
            return None
        stated, instead = read_statement(old.text), _INSTEAD.match(right)
        if right and instead is not None and stated is not None and stated.value in old.text:
            right = old.text.replace(stated.value, instead["v"].strip())
        await self._retract(who, old.id)
        if not right:
            return self._say(who, "wrong", old=old.text)
        await self._remember(who, right)
        return self._say(who, "corrected", text=right, old=old.text)

    async def _doubted(self, who: Speaker, right: str) -> Any:
        """The fact that is called wrong: the one about the same, else the first that the last answer was given."""
        store = await self.memory.own_store(who.scope)
        if store is None:
            return None
        stated = read_statement(right) if right else None
        ids = self.memory.last_recalled(store)

        def fn(c: Connection) -> Any:
            mine = and_(memory_t.c.store_id == store, table.part_of("talk"), memory_t.c.speaker != OURS)
            held = and_(mine, (memory_t.c.kind != "turn") | (memory_t.c.attribute != ""))
            if stated is not None:
                subject = stated.subject if stated.subject != "self" else f"by:{who.id or who.scope.person}"
                same = and_(held, memory_t.c.subject == subject, memory_t.c.attribute == stated.attribute)
                return c.execute(select(memory_t).where(same).order_by(memory_t.c.at.desc()).limit(1)).first()
            found = {r.id: r for r in c.execute(select(memory_t).where(and_(held, memory_t.c.id.in_(ids))))}
            return next((found[i] for i in ids if i in found), None)

        return await self.memory.db.read(fn)

    async def _retract(self, who: Speaker, number: int) -> None:
        """It was never true: neither now nor in the history. What said the same at the same time goes with it."""
        store = await self.memory.own_store(who.scope)

        def fn(c: Connection) -> None:
            row = c.execute(select(memory_t).where(memory_t.c.id == number)).one()
            same = memory_t.c.id == number
            if row.attribute:
                value = stated_value(row.text)
                about = and_(memory_t.c.subject == row.subject, memory_t.c.attribute == row.attribute)
                others = c.execute(
                    select(memory_t.c.id, memory_t.c.text).where(and_(memory_t.c.store_id == store, about))
                )
                same = memory_t.c.id.in_([number, *(o.id for o in others if stated_value(o.text) == value)])
            c.execute(update(memory_t).where(same).values(retracted_at=who.at))

        await self.memory.db.write(fn)
        if store is not None:
            self.memory.views.drop([store])


def _once(rows: list[Any]) -> list[Any]:
    """A fact and the turn in which it was said are one."""
    out: list[Any] = []
    seen: set[str] = set()
    for row in sorted(rows, key=lambda row: row.kind == "turn"):
        key = row.source if row.source.startswith("message:") else f"row:{row.id}"
        if key not in seen:
            seen.add(key)
            out.append(row)
    return sorted(out, key=lambda row: -(row.at or 0))
