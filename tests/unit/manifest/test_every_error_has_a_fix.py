"""Whatever is wrong with a file: the finding says where, and what to do."""

from __future__ import annotations

import pytest

from reconciler.core.language.documents import parse_file
from reconciler.core.yaml_reader import DEPTH_MAX, DOCUMENTS_MAX, NODES_MAX

BAD = {
    "an anchor": "a: &x 1\nb: *x\n",
    "a tag": "a: !!python/object:os.system x\n",
    "a key twice": "a: 1\na: 2\n",
    "a merge key": "<<: {a: 1}\n",
    "a key that is a list": "[a, b]: 1\n",
    "no key": ": 1\n",
    "a NUL": "a: \0\n",
    "a list": "- a\n",
    "a text": "just text",
    "too deep": "a: " + "[" * (DEPTH_MAX + 5) + "]" * (DEPTH_MAX + 5),
    "too many values": "a: [" + "1," * (NODES_MAX + 5) + "]",
    "too many documents": "---\na: 1\n" * (DOCUMENTS_MAX + 2),
    "an open bracket": "a: [1\n",
    "an open quote": "a: 'x\n",
    "a tab": "\ta: 1\n",
    "a directive": "%YAML 1.1\n---\na: 1\n",
    "a percent sign": "a: %x\n",
    "an at sign": "a: @x\n",
    "another version": "apiVersion: trueup/v2\nkind: App\n",
    "another kind": "apiVersion: trueup/v1\nkind: Deployment\nmetadata: {name: x}\n",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_told_with_its_line_and_the_way_out(name: str) -> None:
    found = parse_file(BAD[name].encode(), "x.yaml", "b").findings
    assert found
    for each in found:
        assert each.path == "x.yaml" and each.line >= 1 and each.fix, each
