"""Short ways to say a tree, for the tests of planner and guards."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.cross_checks import Tree, assemble
from reconciler.core.findings import errors
from reconciler.core.manifest import Scope, read_file
from reconciler.core.planner import Plan, plan
from reconciler.core.revisions import CommitInfo, Source
from reconciler.core.trailers import read_confirmations
from reconciler.vault import resolve_offline

SOURCE = Source("main", "org", "project", "/repository")
IMAGE = "registry.example.com/site@sha256:" + "ab" * 32
ENVIRONMENT = "apiVersion: trueup/v1\nkind: Environment\nmetadata: {name: prod}\n"
ARMORED = """      -----BEGIN AGE ENCRYPTED FILE-----
      YWdlLWVuY3J5cHRpb24ub3JnL3YxCg%s==
      -----END AGE ENCRYPTED FILE-----
"""


def app(name: str = "site", more: str = "") -> str:
    return f"""apiVersion: trueup/v1
kind: App
metadata: {{name: {name}, env: prod}}
spec:
  processes:
    web:
      image: {IMAGE}
      memory: 128Mi
      ports: {{https: 8443}}
{more}"""


def route(name: str, hostname: str, app_name: str = "site", port: str = "https") -> str:
    meta = f"{{name: {name}, app: {app_name}, env: prod}}"
    spec = f"{{hostname: {hostname}.example.test, process: web, port: {port}}}"
    return f"apiVersion: trueup/v1\nkind: Route\nmetadata: {meta}\nspec: {spec}\n"


def volume(name: str, size: str = "1Gi", app_name: str = "site") -> str:
    meta = f"{{name: {name}, app: {app_name}, env: prod}}"
    return f"apiVersion: trueup/v1\nkind: Volume\nmetadata: {meta}\nspec: {{size: {size}}}\n"


def secret(name: str, content: str = "aa", app_name: str = "site") -> str:
    meta = f"{{name: {name}, app: {app_name}, env: prod}}"
    return f"apiVersion: trueup/v1\nkind: Secret\nmetadata: {meta}\nspec:\n  values:\n    KEY: |\n{ARMORED % content}"


def tree(files: Mapping[str, str]) -> Tree:
    scope = Scope("org", "project")
    assembled = assemble(
        [read_file(text.encode(), path, "0" * 40, scope, resolve_offline) for path, text in files.items()]
    )
    assert not errors(assembled.findings), assembled.findings
    return assembled.tree


def planned(
    base: Mapping[str, str] | None, head: Mapping[str, str], *messages: str, retained: tuple[str, ...] = ()
) -> Plan:
    """`retained`: short identities."""
    before = tree(base) if base is not None else None
    known = {each.short: each for each in (before.resources if before else {})}
    known |= {each.short: each for each in tree({"v": ENVIRONMENT, "a": app(), "d": volume("data")}).resources}
    return plan(
        before,
        tree(head),
        source=SOURCE,
        info=CommitInfo("c" * 40, "Dev <dev@example.com>", "a subject"),
        base_commit="b" * 40 if base is not None else "",
        retained=frozenset(known[each] for each in retained),
        confirmations=read_confirmations(messages),
    )


def lines(result: Plan) -> list[str]:
    """The plan as VERB IDENTITY, in its order."""
    return [f"{each.verb} {each.resource_id.short}" for each in result.changes]
