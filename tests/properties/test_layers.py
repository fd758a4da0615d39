"""Manifests that build on one another: what they inherit is what somebody would write who writes it all out, and read
commit by commit they are what a fresh reading of the last commit says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from kit.codec import to_json
from reconciler.core.cross_checks import Assembled, assemble
from reconciler.core.declared import Scope
from reconciler.core.findings import errors
from reconciler.core.language.documents import parse_file
from reconciler.core.manifest import read_file, read_files
from reconciler.vault import resolve_offline
from tests.unit.manifest.in_memory import Commits, reader
from tests.unit.planner.trees import IMAGE

HEAD = "apiVersion: trueup/v1\n"
ENVS = ("prod", "staging")
ENVIRONMENTS = "---\n".join(f"{HEAD}kind: Environment\nmetadata: {{name: {env}}}\n" for env in ENVS)
FOLDERS = ("", "a/", "a/b/", "c/")
SCOPE = Scope("o", "p")
Fields = dict[str, Any]
"""A mapping as YAML has it: texts, None for null, or again a mapping."""


def fields(*, nulls: bool) -> st.SearchStrategy[Fields]:
    nothing = [None] if nulls else []
    return st.fixed_dictionaries(
        {},
        optional={
            "memory": st.sampled_from(["64Mi", "128Mi", "'${mem}'", *nothing]),
            "replicas": st.sampled_from(["1", "2", "'${count}'", *nothing]),
            "cpu": st.sampled_from(["1", "0.5", *nothing]),
            "update": st.sampled_from([{"surge": "0"}, {"drainGrace": "3s"}, *([{"surge": None}] if nulls else [])]),
            "env": st.sampled_from([{"A": "x"}, {"A": "'${env}'", "B": "y"}, *([{"A": None}] if nulls else [])]),
        },
    )


VARIABLES = st.fixed_dictionaries({}, optional={"mem": st.sampled_from(["64Mi", "96Mi"]), "count": st.just("'3'")})
SECTION = st.fixed_dictionaries({"variables": VARIABLES, "process": fields(nulls=False)})
ENV = st.sampled_from([{}, {"env": "prod"}, {"envs": ["prod"]}, {"envs": ["staging", "prod"]}])
DEFAULTS = st.fixed_dictionaries({"metadata": ENV, "all": SECTION, "one": st.sampled_from(ENVS), "section": SECTION})
ROOT: Fields = {
    "metadata": {"env": "prod"},
    "all": {"variables": {"mem": "80Mi", "count": "'4'"}, "process": {"memory": "72Mi", "cpu": "2"}},
    "one": "staging",
    "section": {"variables": {}, "process": {"memory": "88Mi"}},
}
"""So that most of what is drawn is good."""


@dataclass(frozen=True)
class Layers:
    """A tree before it is text: folder -> what lies in it."""

    defaults: Mapping[str, Fields]
    apps: Mapping[str, Fields]
    overlays: Mapping[str, Fields]

    def files(self) -> dict[str, str]:
        files = {"environments.yaml": ENVIRONMENTS}
        for folder, each in self.defaults.items():
            spec = {**each["all"], "environments": {each["one"]: each["section"]}}
            files[f"{folder}defaults.yaml"] = (
                f"{HEAD}kind: Defaults\nmetadata: {flow(each['metadata'])}\nspec: {flow(spec)}\n"
            )
        for folder, each in self.apps.items():
            metadata = {"name": each["name"], **each["env"]}
            spec = {"processes": {"web": {"image": IMAGE, **each["process"]}}}
            files[f"{folder}app.yaml"] = f"{HEAD}kind: App\nmetadata: {flow(metadata)}\nspec: {flow(spec)}\n"
        for folder, each in self.overlays.items():
            target = {"kind": "App", "name": each["name"], **each["env"]}
            patch = {"processes": {"web": {"restart": "never", **each["process"]}}}
            files[f"{folder}overlay.yaml"] = f"{HEAD}kind: Overlay\ntarget: {flow(target)}\npatch: {flow(patch)}\n"
        return files


@st.composite
def trees(draw: st.DrawFn) -> Layers:
    """Each app has its own name, and each overlay an app that is there."""
    defaults = {"": ROOT} | {folder: draw(DEFAULTS) for folder in FOLDERS if draw(st.booleans())}
    apps: dict[str, Fields] = {
        folder: {"name": f"app{number}", "env": draw(ENV), "process": draw(fields(nulls=True))}
        for number, folder in enumerate(FOLDERS)
        if draw(st.booleans())
    }
    written = Written(Layers({**defaults, "": {**defaults[""], "all": ROOT["all"]}}, apps, {}))
    overlays = {}
    for folder, app in apps.items():
        if draw(st.booleans()):
            place = draw(st.sampled_from(FOLDERS))
            env = draw(st.sampled_from(written.envs(folder, app["env"]) or ["prod"]))
            overlays[place] = {"name": app["name"], "env": {"env": env}, "process": draw(fields(nulls=True))}
    return Layers(written.layers.defaults, apps, overlays)


@st.composite
def histories(draw: st.DrawFn) -> list[Layers]:
    """Each commit changes one layer, or one file of one layer, of the commit before."""
    history = [draw(trees())]
    for _ in range(draw(st.integers(1, 4))):
        last, other = history[-1], draw(trees())
        layer = draw(st.sampled_from(["defaults", "apps", "overlays"]))
        folder = draw(st.sampled_from(FOLDERS))
        files = {**getattr(last, layer)}
        files.pop(folder, None)
        files |= {key: each for key, each in getattr(other, layer).items() if key == folder}
        history.append(dataclasses.replace(last, **{layer: files}))
    return history


def flow(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {flow(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case None:
            return "null"
        case _:
            return str(value)


class Written:
    """The model: the same by plain dictionaries, a whole manifest for each resource."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers

    def manifests(self) -> dict[str, str]:
        found = {}
        for folder, each in self.layers.apps.items():
            for env in self.envs(folder, each["env"]):
                found[f"{env}/{each['name']}"] = self.manifest(folder, each, env)
        return found

    def manifest(self, folder: str, each: Fields, env: str) -> str:
        process: Fields = {}
        for section in self.sections(folder, env):
            over(process, section["process"])
        over(process, {"image": IMAGE, **each["process"]})
        process = filled(process, self.variables(folder, env))
        for place, overlay in self.layers.overlays.items():
            if overlay["name"] == each["name"] and env in self.envs(place, overlay["env"]):
                patch = {"restart": "never", **overlay["process"]}
                over(process, filled(patch, self.variables(place, env)))
        metadata = {"name": each["name"], "env": env}
        return f"{HEAD}kind: App\nmetadata: {flow(metadata)}\nspec: {flow({'processes': {'web': process}})}\n"

    def above(self, folder: str) -> list[Fields]:
        return [
            self.layers.defaults[each] for each in FOLDERS if folder.startswith(each) and each in self.layers.defaults
        ]

    def sections(self, folder: str, env: str) -> list[Fields]:
        found = []
        for each in self.above(folder):
            found.append(each["all"])
            if each["one"] == env:
                found.append(each["section"])
        return found

    def variables(self, folder: str, env: str) -> Fields:
        found = {"env": env}
        for section in self.sections(folder, env):
            found.update(section["variables"])
        return found

    def envs(self, folder: str, own: Fields) -> list[str]:
        for each in (own, *(each["metadata"] for each in reversed(self.above(folder)))):
            if each:
                return list(each["envs"]) if "envs" in each else [each["env"]]
        return []


def over(weak: Fields, strong: Fields) -> None:
    for key, value in strong.items():
        if value is None and key in weak:
            del weak[key]
        elif isinstance(value, dict) and isinstance(weak.get(key), dict):
            weak[key] = dict(weak[key])
            over(weak[key], value)
        else:
            weak[key] = value


def filled(value: Any, variables: Fields) -> Any:
    if isinstance(value, dict):
        return {key: filled(each, variables) for key, each in value.items()}
    for name in ("env", "mem", "count"):
        if isinstance(value, str) and f"${{{name}}}" in value:
            value = value.strip("'").replace(f"${{{name}}}", variables.get(name, "(unset)").strip("'"))
    return value


@given(trees())
@settings(max_examples=150, deadline=None)
def test_what_is_inherited_is_what_one_would_write_out(layers: Layers) -> None:
    parsed = [parse_file(text.encode(), path, text.encode().hex()) for path, text in layers.files().items()]
    files, between = read_files(parsed, SCOPE, resolve_offline)
    assembled = assemble(files, between)
    written = {
        name: read_file(text.encode(), "x.yaml", "", SCOPE, resolve_offline)
        for name, text in Written(layers).manifests().items()
    }
    placed = all(Written(layers).envs(folder, each["env"]) for folder, each in layers.apps.items())
    good = placed and not any(each.findings for each in written.values())
    event("good" if good else "bad")
    assert good == (not errors(assembled.findings))
    if good:
        apps = {
            f"{key.env}/{key.name}": each.spec for key, each in assembled.tree.resources.items() if key.kind == "app"
        }
        assert apps == {name: each.declared[0].resource.spec for name, each in written.items()}


def said(assembled: Assembled) -> object:
    return to_json([(str(key), each) for key, each in assembled.tree.resources.items()]), assembled.findings


@given(histories())
@settings(max_examples=50, deadline=None)
def test_commit_by_commit_is_as_a_fresh_reading(history: list[Layers]) -> None:
    store = Commits([each.files() for each in (*history, history[0])])
    following = reader(store)
    for number in (*range(len(store.trees)), 0):
        assert said(following.read(str(number))) == said(reader(store).read(str(number)))
