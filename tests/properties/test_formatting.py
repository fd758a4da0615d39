"""`trueup fmt`: the layout changes, nothing else does, and a second time nothing at all."""

from __future__ import annotations

from typing import Any

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from reconciler.core.formatting import formatted
from reconciler.core.yaml_reader import Array, Node, Table, read_documents

TEXTS = st.sampled_from(
    [
        "a",
        "no",
        "1e3",
        "0x10",
        "'x'",
        '"1"',
        '"a: b # no comment"',
        "${x}",
        "",
        "null",
        "a b  c",
        "-1",
        "'it''s'",
        '"\\t"',
    ]
)
KEYS = st.sampled_from(["a", "b", "c", "long-key", "'quoted'", "no", "1"])
SPACE = st.sampled_from([" ", "  ", "     "])


@st.composite
def block(draw: st.DrawFn, depth: int = 0) -> list[str]:
    """The lines of a mapping or list in block style, indented as somebody in a hurry would."""
    step = draw(st.integers(1, 5))
    lines: list[str] = []
    listing = draw(st.booleans()) and depth > 0
    for number in range(draw(st.integers(1, 3))):
        lines += draw(noise())
        head = "-" if listing else f"{draw(KEYS)}{number}:".replace("'0", "0'").replace("'1", "1'").replace("'2", "2'")
        lines += draw(entry(head, step, depth))
    return lines


@st.composite
def entry(draw: st.DrawFn, head: str, step: int, depth: int) -> list[str]:
    kind = draw(st.sampled_from(["text", "text", "flow", "literal", "folded", "below"]))
    comment = draw(st.sampled_from(["", "", f"{draw(SPACE)}# said"]))
    pad = " " * step
    match kind:
        case "below" if depth < 3:
            return [head + comment, *(pad + line if line else line for line in draw(block(depth + 1)))]
        case "flow":
            return [f"{head}{draw(SPACE)}[ a,{draw(SPACE)}{{x: y,{draw(SPACE)}z: w }} ]{comment}"]
        case "literal":
            return [f"{head} |{draw(st.sampled_from(['', '-', '+']))}", f"{pad}one", f"{pad}  # two", "", f"{pad}three"]
        case "folded":
            return [f"{head} >-", f"{pad}one", f"{pad}two"]
        case _:
            text = draw(TEXTS)
            return [f"{head}{draw(SPACE)}{text}{comment if text else ''}".rstrip()]


@st.composite
def noise(draw: st.DrawFn) -> list[str]:
    return draw(st.sampled_from([[], [], [], ["# a remark"], ["      # far out"], [""], ["", "", ""]]))


@st.composite
def files(draw: st.DrawFn) -> str:
    documents = ["\n".join(draw(block())) for _ in range(draw(st.integers(1, 3)))]
    begin = draw(st.sampled_from(["", "---\n", "# top\n---\n", "# top\n\n"]))
    return (
        begin
        + draw(st.sampled_from(["\n---\n", "\n---\n---\n"])).join(documents)
        + draw(st.sampled_from(["", "\n", "\n\n", "\n---\n"]))
    )


def bare(node: Node) -> Any:
    match node:
        case Table():
            return {entry.key: bare(entry.value) for entry in node.entries}
        case Array():
            return [bare(item) for item in node.items]
        case _:
            return (node.text, node.plain)


def words(text: str) -> list[str]:
    return [line.partition("#")[2].strip() for line in text.split("\n") if "#" in line]


@given(files())
@settings(max_examples=200, deadline=None)
@example("# top\n---\na:   1\n---\n---\nb:   2 # c\n---\n")
@example("\ufeffa:\r\n    b: 1\r\n")
def test_layout_alone(text: str) -> None:
    before, findings = read_documents(text.encode(), "x")
    if findings:
        return
    done = formatted(text)
    event("formatted" if done is not None else "left alone")
    if done is None:
        return
    after, findings = read_documents(done.encode(), "x")
    assert not findings
    assert [bare(each) for each in after] == [bare(each) for each in before]
    assert words(done) == words(text)
    assert formatted(done) == done
    assert done.endswith("\n")
    assert "\t" not in done
