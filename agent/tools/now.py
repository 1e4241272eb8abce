"""The tool that tells the time."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from agent.tools.base import Args, Tool, ToolContext, ToolResult
from storage.clock import Clock

DAYS = {"zh_CN": "一二三四五六日", "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")}


class TimeArgs(Args):
    zone: str = Field(default="Asia/Shanghai", description="IANA time zone, e.g. Asia/Shanghai", max_length=64)


def time_tool(clock: Clock) -> Tool:
    """`time`: date, weekday and time in a zone."""

    async def run(ctx: ToolContext, args: TimeArgs) -> ToolResult:
        try:
            zone = ZoneInfo(args.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return ToolResult(text=f"unknown time zone {args.zone!r}; use an IANA name", ok=False)
        now = clock.now().astimezone(zone)
        day = DAYS["zh_CN" if ctx.lang == "zh_CN" else "en"][now.weekday()]
        word = f"星期{day}" if ctx.lang == "zh_CN" else day
        return ToolResult(text=f"{now:%Y-%m-%d} {word} {now:%H:%M:%S} {args.zone}")

    return Tool(name="time", description="Current date, weekday and time in a time zone.", args=TimeArgs, run=run)
