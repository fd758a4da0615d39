"""Manifests that grow when they are put together: every way to multiply text has a bound, and the bound is quick."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from reconciler.core.cross_checks import RESOURCES_MAX, Assembled
from reconciler.core.findings import errors
from reconciler.core.yaml_reader import FILE_BYTES_MAX
from reconciler.git import tree_files
from tests.unit.manifest.in_memory import Commits, reader
from tests.unit.planner.trees import IMAGE

HEAD = "apiVersion: trueup/v1\n"
ENVIRONMENT = f"{HEAD}kind: Environment\nmetadata: {{name: prod}}\n"


def read(files: Mapping[str, str]) -> Assembled:
    return reader(Commits([files])).read("0")


def codes(files: Mapping[str, str]) -> list[str]:
    return sorted({each.code for each in errors(read(files).findings)})


def app(name: str = "site", more: str = "", metadata: str = "env: prod") -> str:
    return (
        f"{HEAD}kind: App\nmetadata: {{name: {name}, {metadata}}}\n"
        f"spec:\n  processes:\n    web:\n      image: {IMAGE}\n      memory: 64Mi\n{more}"
    )


def defaults(spec: str) -> str:
    return f"{HEAD}kind: Defaults\nspec:\n{spec}"


def test_a_long_variable_used_often() -> None:
    """8 KiB, 500 times in one text."""
    uses = "${long}" * 500
    files = {
        "env.yaml": ENVIRONMENT,
        "defaults.yaml": defaults(f"  variables: {{long: {'x' * 8192}}}\n"),
        "app.yaml": app(more=f'      command: ["{uses}"]\n'),
    }
    began = time.monotonic()
    assert codes(files) == ["document_too_large"]
    assert time.monotonic() - began < 2


def test_a_long_variable_in_many_texts() -> None:
    texts = ", ".join(['"${long}"'] * 60)
    files = {
        "env.yaml": ENVIRONMENT,
        "defaults.yaml": defaults(f"  variables: {{long: {'x' * 4000}}}\n"),
        "app.yaml": app(more=f"      command: [{texts}]\n"),
    }
    assert not codes(files), "240 KB are within the bound"
    files["app.yaml"] = app(
        more=f"      command: [{texts}]\n      env: {{A: '${{long}}${{long}}', B: '${{long}}${{long}}',"
        " C: '${long}${long}${long}${long}'}\n"
    )
    assert codes(files) == ["document_too_large"]


def test_variables_cannot_feed_each_other() -> None:
    bomb = "\n".join(f"    v{n}: ${{v{n - 1}}}${{v{n - 1}}}" for n in range(1, 60))
    files = {
        "env.yaml": ENVIRONMENT,
        "defaults.yaml": defaults(f"  variables:\n    v0: x\n{bomb}\n"),
        "app.yaml": app(),
    }
    assert codes(files) == ["variable_nested"]


def test_large_defaults_under_many_processes() -> None:
    """Each process of each app inherits 200 KB."""
    env = ", ".join(f"V{n}: {'x' * 7000}" for n in range(30))
    processes = "".join(f"    p{n}: {{image: {IMAGE}, memory: 64Mi}}\n" for n in range(15))
    files = {
        "env.yaml": ENVIRONMENT,
        "defaults.yaml": defaults(f"  process:\n    env: {{{env}}}\n"),
        **{f"a{n}.yaml": app(f"a{n}", more=processes) for n in range(50)},
    }
    began = time.monotonic()
    assert codes(files) == ["document_too_large"]
    assert time.monotonic() - began < 10


def test_many_small_resources_with_large_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each resource is within its bound; all of them together are not."""
    monkeypatch.setattr(tree_files, "TREE_CHARS_MAX", 4 << 20)
    env = ", ".join(f"V{n}: {'x' * 7000}" for n in range(30))
    many = "---\n".join(app(f"a{n}") for n in range(30))
    files = {"env.yaml": ENVIRONMENT, "defaults.yaml": defaults(f"  process:\n    env: {{{env}}}\n"), "many.yaml": many}
    assert codes(files | {"less.yaml": app("less")}) == ["tree_too_large"]


def test_environments_times_documents() -> None:
    """32 environments for each of 700 documents in a page of text."""
    envs = ", ".join(f"e{n}" for n in range(32))
    names = "---\n".join(f"{HEAD}kind: App\nmetadata: {{name: a{n}}}\nspec: {{}}\n" for n in range(700))
    assert RESOURCES_MAX < 32 * 700
    files = {"defaults.yaml": f"{HEAD}kind: Defaults\nmetadata: {{envs: [{envs}]}}\n", "a.yaml": names}
    began = time.monotonic()
    assert codes(files) == ["too_many_resources"]
    assert time.monotonic() - began < 20


def test_thousands_of_defaults_files() -> None:
    """One in each folder, each with a variable of its own: the work is one chain for each folder, not all for all."""
    files = {"env.yaml": ENVIRONMENT}
    for n in range(3000):
        files[f"f{n}/defaults.yaml"] = defaults(f'  variables: {{v: "{n}"}}\n')
    files["f7/app.yaml"] = app(more='      env: {V: "${v}"}\n')
    began = time.monotonic()
    found = read(files)
    assert time.monotonic() - began < 40
    (made,) = (each for key, each in found.tree.resources.items() if key.kind == "app")
    assert made.spec["processes"]["web"]["environment"] == {"V": "7"}
    assert not errors(found.findings)
    assert len(found.findings) == 200, "the warnings about unused variables are bounded as well"


def test_deep_patches_and_deep_defaults() -> None:
    """Nesting is bounded where it is read; what is merged is never deeper than its parts."""
    deep = "{a: " * 40 + "1" + "}" * 40
    files = {
        "env.yaml": ENVIRONMENT,
        "defaults.yaml": f"{HEAD}kind: Defaults\nspec: {{process: {deep}}}\n",
        "app.yaml": app(),
        "o.yaml": f"{HEAD}kind: Overlay\ntarget: {{kind: App, name: site, env: prod}}\npatch: {deep}\n",
    }
    assert codes(files) == ["too_deep"]


def test_thousands_of_overlays_for_nothing() -> None:
    target = "{kind: App, name: nobody, env: prod}"
    one = f"{HEAD}kind: Overlay\ntarget: {target}\npatch: {{processes: {{web: {{cpu: 2}}}}}}\n"
    began = time.monotonic()
    found = read({"env.yaml": ENVIRONMENT, "app.yaml": app(), "o.yaml": "---\n".join([one] * 900)})
    assert {each.code for each in found.findings} == {"overlay_twice", "overlay_without_target", "too_many_findings"}
    assert time.monotonic() - began < 20


def test_a_text_that_is_all_dollars() -> None:
    """No pattern is slow on a text that nearly matches."""
    for text in ("$" * 200_000, "${" * 100_000, "$${" * 80_000, "${" + "a" * 200_000, "${a" * 60_000):
        began = time.monotonic()
        found = read({"env.yaml": ENVIRONMENT, "app.yaml": app(more=f"      command: ['{text}']\n")})
        assert errors(found.findings)
        assert time.monotonic() - began < 5
        assert all(len(each.message) < 500 for each in found.findings)
        assert len(text) < FILE_BYTES_MAX


def test_a_variable_is_only_a_text() -> None:
    """What it holds cannot become structure, another variable, or nothing."""
    values = {
        "colon": "a: b",
        "brace": "{x: y}",
        "dollar": "$x $(y) $",
        "null": '"null"',
        "tilde": '"~"',
        "empty": '""',
    }
    lines = "".join(
        f"    {key}: {value if value.startswith(chr(34)) else repr(value)}\n" for key, value in values.items()
    )
    uses = "".join(f"        {key.upper()}: ${{{key}}}\n" for key in values)
    files = {
        "env.yaml": ENVIRONMENT,
        "defaults.yaml": defaults(f"  variables:\n{lines}"),
        "app.yaml": app(more=f"      env:\n{uses}"),
    }
    found = read(files)
    assert not found.findings
    (made,) = (each for key, each in found.tree.resources.items() if key.kind == "app")
    assert made.spec["processes"]["web"]["environment"] == {
        "COLON": "a: b", "BRACE": "{x: y}", "DOLLAR": "$x $(y) $", "NULL": "null", "TILDE": "~", "EMPTY": "",
    }  # fmt: skip


def test_the_controllers_environment_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    assert codes({"env.yaml": ENVIRONMENT, "app.yaml": app(more='      command: ["${HOME}"]\n')}) == ["variable_unset"]


def test_names_cannot_be_made_of_variables() -> None:
    """An identity is what the reviewer reads."""
    files = {
        "env.yaml": ENVIRONMENT,
        "defaults.yaml": defaults("  variables: {which: site}\n"),
        "app.yaml": app().replace("name: site", 'name: "${which}"'),
    }
    assert codes(files) == ["value_invalid"]


def test_a_control_character_cannot_come_through_a_variable() -> None:
    files = {
        "env.yaml": ENVIRONMENT,
        "defaults.yaml": defaults('  variables: {bell: "\\a"}\n'),
        "app.yaml": app(more='      command: ["${bell}"]\n'),
    }
    assert "control_character" in codes(files)
