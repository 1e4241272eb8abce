"""How people say what the demo model understands, in Chinese and English."""

from __future__ import annotations

import re


def _any(*patterns: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | flags)


MEMORY = re.compile(r"^- \[[^\]]*\]\s*(.+)$", re.MULTILINE)
DOCUMENT = re.compile(r"^- (?!\[)([^\n]+?): (.+)$", re.MULTILINE)
URL = re.compile(r"https?://[^\s<>\"'，。）)]+")
QUESTION = _any(
    r"[?？]\s*$",
    r"哪天|什么|几号|几点|多少|哪里|哪个|谁|吗\s*[。？?]?$",
    r"^(?:what|when|where|who|which|how|do|does|did)\b",
)
REMEMBER = _any(
    r"^\s*(?:请|麻烦|帮我|你要|你)*(?:记住|记一下|记下来|记下|记着|别忘了|不要忘记)[，,：:\s]*(?P<zh>.+)",
    r"^\s*(?:please\s+)?(?:remember|note|keep in mind|don'?t forget)(?:\s+that)?[:,]?\s+(?P<en>.+)",
    flags=re.DOTALL,
)
RECALL = _any(
    r"(?:还|你)?记得|记不记得|之前说|上次说|我说过|我告诉过|关于我",
    r"我的?[^，。？?]{0,30}(?:什么|哪|谁|几|多少|吗)",
    r"\b(?:what|when|where|who|which)\b.{0,40}\b(?:my|i|me)\b",
    r"\bdo you (?:remember|know)\b|\bwhat did i\b",
)
ALL_ABOUT = _any(r"关于我", r"知道我(?:什么|哪些)", r"(?:know|remember) about me", r"记得(?:什么|哪些)")
CLOCK = _any(
    r"(?:现在|当前|今天|此刻|今儿).{0,8}(?:几点|时间|日期|星期几|周几|几号|礼拜几)",
    r"^几点了|报个?时",
    r"what(?:'s| is)? (?:the )?(?:current )?(?:time|date)|what day is|today'?s date|current time|time is it",
)
REMIND = _any(r"提醒我", r"remind me")
SCHEDULE = _any(
    r"每(?:天|日|周|星期|月|年|小时|隔|个)|工作日.{0,6}\d|定时|提醒我|闹钟",
    r"remind me|\bevery (?:day|week|month|hour|morning|\w+day)|\bschedule\b|\bdaily\b|\bweekly\b",
)
WHEN = _any(
    r"(?:每(?:天|日|周.?|星期.?|月.{0,4}|小时|隔\S{1,6})|明天|后天|今晚|工作日)?(?:早上|上午|中午|下午|晚上)?\s*"
    r"\d{1,2}\s*(?:[:：]\d{2}|点半?|时)",
    r"每(?:天|日|周.?|月|小时)",
    r"every \w+(?: at [\d:]+\s*(?:am|pm)?)?",
    r"tomorrow(?: at [\d:]+\s*(?:am|pm)?)?",
)
PLAN = _any(r"计划|规划|制定|分步|一步步|安排一下", r"\bplan\b(?!\.\w)|step by step")
TOPIC = _any(
    r"^\s*(?:请|麻烦|帮我|帮忙|给我|你|能不能|可以)*(?:做个|做一个|制定|写个|列个|来个|一个|一下)*"
    r"(?:计划|规划|安排)?(?:一下|一次|一个)?[，,：:\s]*",
    r"^\s*(?:please\s+)?(?:can you\s+|could you\s+)?(?:make\s+(?:me\s+)?(?:a\s+)?|help me\s+)?plan(?:\s+for)?\s*",
)
TABLE = _any(r"表格", r"\btable\b", r"markdown")
CODE = _any(r"代码|写.{0,6}函数", r"\bpython\b|\bcode\b|\bfunction\b")
HELLO = _any(
    r"^\s*(?:你好|您好|嗨|哈喽|在吗|早上好|上午好|下午好|晚上好)",
    r"^\s*(?:hi|hello|hey|good (?:morning|evening|afternoon))\b",
)
THANKS = _any(r"^\s*(?:谢谢|多谢|感谢|thanks|thank you)")
ABOUT = _any(
    r"你是谁|你是什么|你叫什么|介绍.{0,3}自己|你能做什么|你会什么|你能干|帮助|怎么用|什么模型",
    r"who are you|what are you|your name|what can you do|which model|what model|\bhelp\b",
)


def _file(group: str) -> str:
    """A file name; Chinese characters belong to it only behind a space or a quote."""
    return rf"(?P<{group}>(?:(?<=[\s“\"'])[\w\-]{{1,60}}|[A-Za-z0-9_\-]{{1,60}})\.[A-Za-z0-9]{{1,8}})"


WRITE = _any(
    rf"(?:把|将)?[“\"']?(?P<a>.+?)[”\"']?\s*(?:写到|写进|写入|保存到|保存为|存到|存成|存为)(?:文件)?\s*{_file('name1')}",
    rf"(?:写|建|创建|新建)(?:一个)?(?:文件)?\s*{_file('name2')}[，,：:\s]*(?:内容(?:是|为)?)?[：:\s]*(?P<b>.+)",
    r"\b(?:write|save|put)\s+[\"']?(?P<c>.+?)[\"']?\s+(?:to|into|in|as)\s+(?:(?:the|a) file\s+)?" + _file("name3"),
    rf"\bcreate (?:a |the )?file\s+{_file('name4')}\s*(?:with|:)?\s*(?P<d>.+)",
    flags=re.DOTALL,
)
READ = _any(rf"(?:读|打开|看看|查看|显示|内容|\bread\b|\bopen\b|\bshow\b|\bcat\b).*?{_file('name')}")
LIST = _any(
    r"(?:列出|有哪些|有什么|看看|查看).{0,8}文件|文件列表",
    r"\b(?:list|which|what|show)\b.{0,12}\bfiles\b",
)
ZONES = {
    "北京|上海|中国|beijing|shanghai|china": "Asia/Shanghai",
    "东京|日本|tokyo|japan": "Asia/Tokyo",
    "伦敦|英国|london": "Europe/London",
    "纽约|new york": "America/New_York",
    "旧金山|洛杉矶|硅谷|san francisco|los angeles": "America/Los_Angeles",
    "柏林|德国|berlin|germany": "Europe/Berlin",
    "巴黎|paris": "Europe/Paris",
    "新加坡|singapore": "Asia/Singapore",
    "悉尼|sydney": "Australia/Sydney",
    "世界时|utc|gmt": "UTC",
}
STOP_ZH = re.compile(
    r"还记得|记得|告诉|我的|你的|什么时候|什么|哪一?天|哪里|哪个|几月几号|几号|多少|是谁|是|我|你|的|吗|呢|在|了|叫|有|谁"
    r"|[，。？?！!：:、\s]"
)
STOP_EN = frozenset(
    re.findall(
        r"\w+",
        "what when where who which is are was were do does did you remember know my i me the a an of to tell about say "
        "said your it in on",
    )
)
SWAP_EN = {"my": "your", "i": "you", "i'm": "you're", "me": "you", "mine": "yours", "am": "are", "myself": "yourself"}
