"""Plain words, Chinese and English, and the expressions that they mean; what is half understood is refused."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from agent.schedules.plain import read_plain
from storage.errors import Invalid

# a Tuesday
NOW = datetime(2026, 11, 24, 10, 20, 30, tzinfo=ZoneInfo("Asia/Shanghai"))

SAID = {
    "每天早上9点": "0 9 * * *",
    "每日 18:30": "30 18 * * *",
    "每天晚上八点半": "30 20 * * *",
    "天天凌晨两点": "0 2 * * *",
    "每晚11点": "0 23 * * *",
    "每天中午": "0 12 * * *",
    "每天9点和18点": "0 9,18 * * *",
    "每天上午9点、下午3点": "0 9,15 * * *",
    "每个工作日 9:00": "0 9 W * *",
    "工作日下午五点半": "30 17 W * *",
    "法定节假日 10点": "0 10 H * *",
    "每周一 9:00": "0 9 * * 1",
    "每周一9点": "0 9 * * 1",
    "每周五18:00": "0 18 * * 5",
    "每周一三五早上9点": "0 9 * * 1,3,5",
    "每月最后一个工作日18:00": "0 18 LW * *",
    "每月1号9点": "0 9 1 * *",
    "每个星期三下午三点半": "30 15 * * 3",
    "每周一、三、五 8:30": "30 8 * * 1,3,5",
    "每周一到周五早上9点": "0 9 * * 1-5",
    "每星期日晚上8点": "0 20 * * 7",
    "周末10点": "0 10 * * 6,7",
    "每月1号 9点": "0 9 1 * *",
    "每月1号和15号上午10点": "0 10 1,15 * *",
    "每月1、15号 10:00": "0 10 1,15 * *",
    "每月最后一天 23:30": "30 23 L * *",
    "每月最后一个工作日 18:00": "0 18 LW * *",
    "每个月第一个工作日上午九点": "0 9 W1 * *",
    "每月第三个工作日 9点": "0 9 W3 * *",
    "每月倒数第二个工作日 17:00": "0 17 W-2 * *",
    "每月最后一个周五 17点": "0 17 * * 5L",
    "每月第二个周三下午2点": "0 14 * * 3#2",
    "每季度最后一个工作日 18点": "0 18 LW 3,6,9,12 *",
    "每季度第一天 8点": "0 8 1 1,4,7,10 *",
    "每年1月1日 0:00": "0 0 1 1 *",
    "每年12月最后一个工作日 18:00": "0 18 LW 12 *",
    "每30分钟": "*/30 * * * *",
    "每隔5分钟执行一次": "*/5 * * * *",
    "每分钟": "* * * * *",
    "每半小时": "*/30 * * * *",
    "每小时": "0 * * * *",
    "每2小时": "0 */2 * * *",
    "每小时第15分": "15 * * * *",
    "工作日9点到18点每半小时": "*/30 9-17 W * *",
    "工作日 9:00-18:00 每小时": "0 9-18 W * *",
    "明天下午3点": "2026-11-25 15:00",
    "今晚8点": "2026-11-24 20:00",
    "明早九点半": "2026-11-25 09:30",
    "后天 10:15": "2026-11-26 10:15",
    "12月1日 9点": "2026-12-01 09:00",
    "2027年2月3日上午8点": "2027-02-03 08:00",
    "下周一 9点": "2026-11-30 09:00",
    "本周五下午6点": "2026-11-27 18:00",
    "20分钟后": "2026-11-24 10:41",
    "两小时后": "2026-11-24 12:21",
    "every day at 9am": "0 9 * * *",
    "daily at 18:30": "30 18 * * *",
    "every morning at 8": "0 8 * * *",
    "every day at 9am and 6pm": "0 9,18 * * *",
    "every day at 9 and 18": "0 9,18 * * *",
    "every workday at 9:00": "0 9 W * *",
    "on business days at 5:30 pm": "30 17 W * *",
    "every weekday at 9am": "0 9 * * 1-5",
    "weekends at noon": "0 12 * * 6,7",
    "on public holidays at 10:00": "0 10 H * *",
    "every Monday at 9": "0 9 * * 1",
    "Mondays at 9am": "0 9 * * 1",
    "every Monday, Wednesday and Friday at 8:30": "30 8 * * 1,3,5",
    "Monday to Friday at 9": "0 9 * * 1-5",
    "every month on the 1st at 9am": "0 9 1 * *",
    "on the 1st and 15th of every month at 10:00": "0 10 1,15 * *",
    "on the last day of every month at 23:30": "30 23 L * *",
    "last workday of the month at 18:00": "0 18 LW * *",
    "on the last working day of every month at 6pm": "0 18 LW * *",
    "first business day of each month at 9": "0 9 W1 * *",
    "2nd to last workday of the month at 17:00": "0 17 W-2 * *",
    "second Wednesday of the month at 2pm": "0 14 * * 3#2",
    "last Friday of every month at 17:00": "0 17 * * 5L",
    "quarterly on the last workday at 18:00": "0 18 LW 3,6,9,12 *",
    "every year on January 1 at midnight": "0 0 1 1 *",
    "every March 8 at 10:00": "0 10 8 3 *",
    "every 15 minutes": "*/15 * * * *",
    "every half hour": "*/30 * * * *",
    "hourly": "0 * * * *",
    "every 2 hours": "0 */2 * * *",
    "every hour at 15 minutes past": "15 * * * *",
    "every 30 minutes between 9 and 18 on workdays": "*/30 9-17 W * *",
    "every hour from 9am to 6pm on weekdays": "0 9-18 * * 1-5",
    "tomorrow at 3pm": "2026-11-25 15:00",
    "tonight at 8pm": "2026-11-24 20:00",
    "day after tomorrow at 10:15": "2026-11-26 10:15",
    "next Monday at 9": "2026-11-30 09:00",
    "on 2026-12-01 at 09:00": "2026-12-01 09:00",
    "December 1 at 9am": "2026-12-01 09:00",
    "in 20 minutes": "2026-11-24 10:41",
    "in an hour": "2026-11-24 11:21",
}

REFUSED = {
    "每天": "schedule.plain_time",
    "every Monday": "schedule.plain_time",
    "每天9点除了周三": "schedule.plain",
    "every day at 9 except Sundays": "schedule.plain",
    "每天9:00和18:30": "schedule.times",
    "每7分钟": "schedule.step",
    "every 50 minutes": "schedule.step",
    "今天8点": "schedule.plain_past",
    "随便什么时候": "schedule.plain",
    "whenever you like": "schedule.plain",
    "9点": "schedule.plain",
    "": "schedule.plain",
    "每天25点": "schedule.cron_field",
    "每月35号9点": "schedule.cron_field",
    "2月30日 9点": "schedule.plain",
}


@pytest.mark.parametrize("text", SAID)
def test_words_mean_the_expression(text: str) -> None:
    assert read_plain(text, NOW) == SAID[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_half_understood_is_refused_at_its_field(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_plain(text, NOW)
    assert refused.value.code == REFUSED[text]
    assert refused.value.field == "plain"
