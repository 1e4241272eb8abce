"""Frames of Feishu's long connection: binary protobuf, its description built in code. Source: protocols.md 1.2."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

CONTROL, DATA = 0, 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One frame. method: `CONTROL` or `DATA`."""

    method: int
    service: int = 0
    seq: int = 0
    log: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    payload: bytes = b""

    @property
    def type(self) -> str:
        """`ping`, `pong`, `event` or `card`."""
        return self.headers.get("type", "")

    def pack(self) -> bytes:
        """The frame's bytes."""
        made = _message()(SeqID=self.seq, LogID=self.log, service=self.service, method=self.method)
        for key, value in self.headers.items():
            made.headers.add(key=key, value=value)
        if self.payload:
            made.payload = self.payload
        packed: bytes = made.SerializeToString()
        return packed


def unpack(raw: bytes) -> Frame | None:
    """The frame of these bytes, or None if they are none."""
    from google.protobuf.message import DecodeError

    found = _message()()
    try:
        found.ParseFromString(raw)
    except DecodeError:
        return None
    if not found.IsInitialized():  # the parser itself does not mind a missing required field
        return None
    headers = {header.key: header.value for header in found.headers[:50]}
    return Frame(
        method=found.method,
        service=found.service,
        seq=found.SeqID,
        log=found.LogID,
        headers=headers,
        payload=found.payload,
    )


@cache
def _message() -> Any:
    """The message class. Imported and built when the first long connection is opened."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="zhixing/feishu/frame.proto", package="zhixing.feishu")
    kinds = descriptor_pb2.FieldDescriptorProto
    header = file.message_type.add(name="Header")
    header.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_REQUIRED)
    header.field.add(name="value", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_REQUIRED)
    frame = file.message_type.add(name="Frame")
    for number, name, kind in (
        (1, "SeqID", kinds.TYPE_UINT64),
        (2, "LogID", kinds.TYPE_UINT64),
        (3, "service", kinds.TYPE_INT32),
        (4, "method", kinds.TYPE_INT32),
    ):
        frame.field.add(name=name, number=number, type=kind, label=kinds.LABEL_REQUIRED)
    frame.field.add(
        name="headers",
        number=5,
        type=kinds.TYPE_MESSAGE,
        label=kinds.LABEL_REPEATED,
        type_name=".zhixing.feishu.Header",
    )
    for number, name, kind in (
        (6, "payload_encoding", kinds.TYPE_STRING),
        (7, "payload_type", kinds.TYPE_STRING),
        (8, "payload", kinds.TYPE_BYTES),
        (9, "LogIDNew", kinds.TYPE_STRING),
    ):
        frame.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()  # our own: the package's may know another file of this name
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("zhixing.feishu.Frame"))
