"""What bots are told of without being asked: templates of the messages, and what was told lately."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from storage.tables.columns import long_text, ms


class EventTemplate(SQLModel, table=True):
    """The text of an event in one language, where it differs from the one that comes with the product."""

    tenant: str = Field(primary_key=True)
    event: str = Field(primary_key=True)
    lang: str = Field(primary_key=True)
    text: str = long_text()
    updated_at: int = ms()
    updated_by: str = ""


class EventWindow(SQLModel, table=True):
    """How often something happened since it was first told of; what was held back is told when the window ends.

    `cause` names what makes two alerts the same; `*` counts all of an event. `last` is the last one held back, JSON.
    """

    tenant: str = Field(primary_key=True)
    event: str = Field(primary_key=True)
    cause: str = Field(primary_key=True)
    begun_at: int = ms()
    until: int = ms(index=True)
    count: int = 0
    told: int = 0
    last: str = long_text("{}")
