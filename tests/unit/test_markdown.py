"""Foreign text as HTML: nothing runs, nothing loads, links say where they lead, hidden characters are gone."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security.growing_text import GrowingText
from security.markdown import LIMIT, host_of, render, visible, words_of

ALLOWED = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li", "strong", "em", "s"),
    *("code", "pre", "a", "span", "div", "table", "thead", "tbody", "tr", "th", "td"),
}


class Checker(HTMLParser):
    """Fails on any tag, attribute or address that could act or load."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        for name, value in attrs:
            assert name in {"href", "rel", "target", "class", "start", "style"}, (tag, name)
            if name == "href":
                assert tag == "a"
                assert urlsplit(value or "").scheme in {"http", "https", "mailto"}, value
            if name == "style":
                assert value in {"text-align:left", "text-align:center", "text-align:right"}
        if tag == "a":
            assert dict(attrs)["rel"] == "noopener noreferrer nofollow"
            assert dict(attrs)["target"] == "_blank"

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(html: str) -> str:
    checker = Checker()
    checker.feed(html)
    return checker.text


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<style>body{display:none}</style>",
    "<form action=https://evil.example><input name=q>",
    "<div style='position:fixed;inset:0'>x</div>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\nscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox)",
    "[x](file:///etc/passwd)",
    "[x](/logout)",
    "[x](//evil.example)",
    "[x](#top)",
    "[x](\u0001javascript:alert(1))",
    "<javascript:alert(1)>",
    "![x](https://evil.example/pixel.png)",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    '![x" onerror="alert(1)](https://a.example/b.png)',
    '[x](https://a.example "title\\" onmouseover=alert(1)")',
    "![a][r]\n\n[r]: https://evil.example/p.png?secret",
    "[a][r]\n\n[r]: javascript:alert(1)",
    '```"><script>alert(1)</script>\nx\n```',
    "```html onload=alert(1)\n<script>alert(1)</script>\n```",
    "```js\n</code></pre><script>alert(1)</script>\n```",
    "    </pre><script>alert(1)</script>",
    "`<script>alert(1)</script>`",
    "| <img src=x onerror=alert(1)> | b |\n|---|---|\n| [x](javascript:1) | d |",
    "https://evil.example/\"onmouseover='alert(1)'",
    "https://evil.example/<script>alert(1)</script>",
    "http://user:pass@evil.example/ok",
    '<https://evil.example/"onclick=alert(1)>',
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "<x onclick=alert(1)>",
    "{{constructor.constructor('alert(1)')()}}",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "\u202e<script>alert(1)</script>",
]


@pytest.mark.parametrize("source", HOSTILE)
@pytest.mark.parametrize("highlight", [False, True])
def test_hostile_text_cannot_act_or_load(source: str, highlight: bool) -> None:
    checked(render(source, highlight=highlight))
    growing = GrowingText()
    for character in source:
        growing.add(character)
        checked(growing.patch().settled)
        checked(growing.whole().tail)


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="<>[]()!`*_~#|-: \n\"'&;\\/ahjs.1\u200b\u202e中🎉", max_size=120))
def test_any_text_renders_clean(source: str) -> None:
    checked(render(source))


def test_links_show_their_host() -> None:
    html = render("[我的银行](https://evil.example/login)")
    assert '<span class="host">evil.example</span>' in html
    assert checked(html).strip() == "我的银行evil.example"


@pytest.mark.parametrize(
    "source",
    ["<https://a.example/b>", "https://a.example/b", "[a.example](https://a.example/b)", "<mail@a.example>"],
)
def test_a_link_that_already_names_its_host_does_not_repeat_it(source: str) -> None:
    assert 'class="host"' not in render(source)


def test_a_text_that_pretends_another_host_is_unmasked() -> None:
    assert '<span class="host">evil.example</span>' in render("[https://bank.example](https://evil.example)")
    assert '<span class="host">xn--pple-43d.com</span>' in render("[商店](https://аpple.com)")


def test_links_that_lead_into_the_panel_or_nowhere_are_text() -> None:
    assert render("[设置](/settings) [x](//evil.example)") == "<p>设置 x</p>\n"


def test_pictures_from_outside_become_links() -> None:
    html = render("![图表](https://img.example/a.png)")
    assert "<img" not in html
    assert 'class="picture"' in html
    assert "img.example" in html
    assert render("![图](data:image/png;base64,AAAA)") == "<p>图</p>\n"


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("见 https://a.example/x_y_z。", "https://a.example/x_y_z"),
        ("(https://a.example/b)", "https://a.example/b"),
        ("https://a.example/b_(c).", "https://a.example/b_(c)"),
        ("看https://a.example/路径，好", "https://a.example/%E8%B7%AF%E5%BE%84"),
    ],
)
def test_bare_addresses_become_links(source: str, address: str) -> None:
    assert f'href="{address}"' in render(source)


def test_addresses_in_code_stay_text() -> None:
    assert "<a" not in render("`https://a.example`\n\n```\nhttps://a.example\n```")


def test_hidden_characters_are_taken_out() -> None:
    hidden = "".join(
        chr(c) for c in (0x200B, 0x200E, 0x202E, 0x2066, 0x2060, 0xFEFF, 0xAD, 0xE0041, 0xE0101, 0x00, 0x1B)
    )
    assert visible(f"密{hidden}码") == "密码"
    assert render(f"a{hidden}b") == "<p>ab</p>\n"


def test_emoji_stay_whole() -> None:
    for emoji in ("👨‍👩‍👧", "❤️", "👍🏽", "🏳️‍🌈"):
        assert visible(emoji) == emoji


def test_joiners_outside_emoji_are_taken_out() -> None:
    assert visible("a\u200db") == "ab"


def test_code_keeps_its_language_and_is_coloured_by_classes_only_at_the_end() -> None:
    source = "```python\ndef f(): pass\n```"
    assert '<span class="k">' not in render(source)
    coloured = render(source, highlight=True)
    assert '<span class="k">def</span>' in coloured
    assert "<span>python</span>" in coloured
    assert "style=" not in coloured


def test_unknown_languages_and_very_long_code_stay_plain() -> None:
    assert '<span class="k">' not in render("```no-such\ndef f(): pass\n```", highlight=True)
    assert '<span class="k">' not in render("```python\n" + "def f(): pass\n" * 3000 + "```", highlight=True)


def test_a_text_over_the_limit_is_cut_and_says_so() -> None:
    html = render("a" * (LIMIT + 10))
    assert html.endswith("<p>…</p>\n")
    assert len(html) < LIMIT + 100


def test_single_line_ends_break_lines() -> None:
    assert render("一\n二") == "<p>一<br>\n二</p>\n"


@pytest.mark.parametrize(
    ("href", "host"),
    [
        ("https://a.example:8443/x", "a.example"),
        ("mailto:a@b.example", "a@b.example"),
        ("https://a.example@evil.example/", ""),
        ("ftp://a.example/", ""),
        ("https://[::1", ""),
    ],
)
def test_host_of(href: str, host: str) -> None:
    assert host_of(href) == host


def test_the_words_of_a_text_in_one_line() -> None:
    table, code = "| 商 | 价 |\n|--|--|\n| 甲 | 1 |", "```py\nx = 1\n```"
    text = f"# 标题\n\n最低的是**恒通**，见 [单](https://a.example)：\n\n{table}\n\n{code}\n- 一\n- 二"
    assert words_of(text) == "标题 最低的是恒通，见 单： 商 价 甲 1 x = 1 一 二"
    assert words_of("字" * 500, 10) == "字" * 10
