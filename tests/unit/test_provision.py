"""Configuration files: read as people mean them, refused whole with the line."""

from __future__ import annotations

import pytest

from storage.errors import Invalid
from storage.provision import each, read_entries

DOCUMENT = """# config/channels.yaml
channels:
  - name: "dingtalk"
    type: "webhook"
    secret: ${SECRET}
    events:
      - "task.completed"
  - name: "feishu"
    type: "webhook"
"""


def test_the_documents_form_is_read_with_lines_and_environment() -> None:
    first, second = read_entries(DOCUMENT, "channels", "channels.yaml", {"SECRET": "s"})
    assert first == {
        "name": "dingtalk",
        "type": "webhook",
        "secret": "s",
        "events": ["task.completed"],
        "__line__": 3,
    }
    assert second["__line__"] == 8


def test_values_are_what_people_mean() -> None:
    (entry,) = read_entries("jobs:\n- {a: 12:30, b: on, c: 010, d: yes, e: true, f: 5}\n", "jobs", "f", {})
    assert [entry[k] for k in "abcdef"] == ["12:30", "on", "010", "yes", True, 5]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("jobs:\n- name: a\n  name: b\n", "config.syntax", 3),
        ("jobs:\n- name: a\n  schedule: */30 * * * *\n", "config.syntax", 3),
        ("jobs:\n- &x {name: a}\n- *x\n", "config.syntax", 3),
        ("jobs:\n- a\n- b: 1\n", "config.shape", 2),
        ("other: []\n", "config.shape", 1),
        ("jobs:\n- name: ${MISSING}\n", "config.env", 2),
        ("jobs:\n\t- a: 1\n", "config.syntax", 2),
    ],
)
def test_a_bad_file_is_refused_with_its_line(text: str, code: str, line: int) -> None:
    with pytest.raises(Invalid) as refused:
        read_entries(text, "jobs", "jobs.yaml", {})
    assert refused.value.code == code
    assert refused.value.params["line"] == line


def test_a_refused_entry_names_file_and_line() -> None:
    def read(entry: object) -> object:
        raise Invalid("model.field", field="x")

    with pytest.raises(Invalid) as refused:
        each("llm.yaml", [{"name": "a", "__line__": 7}], read)
    assert refused.value.params["line"] == 7
