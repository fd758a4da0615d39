"""What an operator says about one source: a table [[sources]] of the controller's TOML file.

Read by `reconciler.settings`; `reconciler.followed_sources` makes the source's parts from it. In a table nothing is
taken from the user that runs the controller: an ssh address needs its own key and its own pinned host keys, an https
one its own token or none.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from kit.errors import Refusal
from kit.setting_tables import table
from kit.setting_values import parse_bytes
from kit.settings import setting
from reconciler.core.quota_words import parse_limits
from reconciler.core.revisions import DEFAULT_RULES, OnError, Rules, Source
from reconciler.forges.settings import ForgeSettings, check_interval
from reconciler.git.access import HOST_KEY, TOKEN_USER, Access, unfit_paths
from reconciler.git.addresses import check_branch, check_source_id, check_url, is_scp, path_parts
from reconciler.git.transport import FETCH_TIMEOUT_S, PACK_BYTES_MAX

_SCOPE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_COMMIT = re.compile(r"([0-9a-f]{12,64})?")


def check_name(value: str) -> str:
    return "" if _SCOPE.fullmatch(value) else f"expected a-z, 0-9 and hyphens, found {value[:80]!r}"


def check_quota(value: str) -> str:
    try:
        parse_limits(value)
    except ValueError as error:
        return str(error)
    return ""


def check_on_error(value: str) -> str:
    return "" if value in get_args(OnError) else f"expected {' or '.join(get_args(OnError))}, found {value!r}"


def check_count(value: int) -> str:
    return "" if 0 <= value <= 1_000_000 else f"expected between 0 and 1000000, found {value}"


def check_share(value: float) -> str:
    return "" if 0 <= value <= 1 else f"expected between 0 and 1, found {value}"


def _check_timeout(value: float) -> str:
    return "" if 1 <= value <= 3600 else f"expected between 1s and 1h, found {value} s"


def _check_bytes(value: int) -> str:
    return "" if value >= 1 << 20 else f"expected at least 1Mi, found {value} bytes"


def _check_rewrite(value: str) -> str:
    return "" if _COMMIT.fullmatch(value) else "expected at least 12 digits of a commit id"


def _check_host_keys(value: tuple[str, ...]) -> str:
    wrong = [each for each in value if not HOST_KEY.fullmatch(each)]
    return f"expected TYPE BASE64, as ssh-keyscan prints them after the host, found {wrong[0][:40]!r}" if wrong else ""


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One repository that is followed, for one project."""

    name: str = setting("how it is called; its history goes by this name", check=check_name)
    url: str = setting("the repository: a path, or a file://, https:// or ssh:// URL")
    org: str = setting("the organisation that it declares for", check=check_name)
    project: str = setting("the project that it declares for", check=check_name)
    branch: str = setting("branch to follow", default="main")
    path: str = setting("folder that holds the manifests; empty: the whole", default="")
    takes_over: tuple[str, ...] = setting("sources whose resources become its own when it declares them", default=())
    accepted_rewrite: str = setting(
        "a commit that may replace the applied history after a force-push", default="", check=_check_rewrite
    )
    ssh_key_file: Path | None = setting("private key for an ssh address", default=None)
    known_hosts_file: Path | None = setting("the only host keys that are accepted", default=None)
    host_keys: tuple[str, ...] = setting("the same, here: TYPE BASE64 each", default=(), check=_check_host_keys)
    token_file: Path | None = setting("file with a token for an https address", default=None)
    token_user: str = setting("user that the token is given under", default=TOKEN_USER)
    credentials_file: Path | None = setting("instead: a file of lines https://USER:TOKEN@HOST", default=None)
    ca_file: Path | None = setting("certificates that the server's is checked against", default=None)
    signers: Path | None = setting("who may sign commits (docs/SIGNERS.md)", default=None)
    poll_interval_s: float = setting(
        "how often to look; up to a tenth more at random", default=15.0, check=check_interval
    )
    fetch_timeout_s: float = setting("how long a fetch may take", default=FETCH_TIMEOUT_S, check=_check_timeout)
    fetch_bytes_max: int = setting(
        "how much a fetch may bring", default=PACK_BYTES_MAX, parse=parse_bytes, check=_check_bytes
    )

    on_error: OnError = setting(
        "what an error that is one app's own does: hold-app or refuse-commit", default="hold-app", check=check_on_error
    )
    deletions_max: int = setting(
        "a commit that deletes more, and a larger share, has to say how many",
        default=DEFAULT_RULES.deletions_max,
        check=check_count,
    )
    deletions_share: float = setting(
        "the share of all resources for that, from 0 to 1", default=DEFAULT_RULES.deletions_share, check=check_share
    )
    push_notes: bool = setting("push the notes about commits (refs/notes/trueup) to the repository", default=False)
    platform_recipient: bool = setting(
        "accept secrets that earlier versions sealed to the platform's recipient, with a warning", default=False
    )
    unbound_secrets: bool = setting("accept secrets that do not say which place they are for", default=False)
    org_quota: str = setting("what the organisation may have", default="", check=check_quota)
    project_quota: str = setting("what the project may have", default="", check=check_quota)
    forge: ForgeSettings = table(ForgeSettings)

    def complaints(self) -> Iterator[tuple[str, str]]:
        """(key, what is wrong) of what would not work, or would not be safe. Of the table [[sources]]."""
        try:
            check_source_id(self.name)
            check_url(self.url)
        except Refusal as error:
            yield "url", f"{error.why}; {error.fix}"
            return
        yield from self._complaints_of_place()
        yield from self._complaints_of_access()

    def _complaints_of_place(self) -> Iterator[tuple[str, str]]:
        for key, check, value in (("branch", check_branch, self.branch), ("path", path_parts, self.path)):
            try:
                check(value)
            except Refusal as error:
                yield key, error.why
        for other in self.takes_over:
            if other == self.name or check_name(other):
                yield "takes_over", f"expected the names of other sources, found {other[:80]!r}"

    def _complaints_of_access(self) -> Iterator[tuple[str, str]]:
        ssh = self.url.startswith("ssh://") or is_scp(self.url)
        https = self.url.startswith("https://")
        if ssh and self.ssh_key_file is None:
            yield "ssh_key_file", "an ssh address needs one"
        if ssh and (self.known_hosts_file is None) == (not self.host_keys):
            yield "host_keys", "an ssh address needs them, or a known_hosts_file, and not both"
        for key in ("ssh_key_file", "known_hosts_file", "host_keys"):
            if not ssh and getattr(self, key):
                yield key, "is for ssh addresses only"
        for key in ("token_file", "credentials_file", "ca_file"):
            if not https and getattr(self, key) is not None:
                yield key, "is for https addresses only"
        if self.token_file is not None and self.credentials_file is not None:
            yield "credentials_file", "there is a token_file too; give one of them"
        for path in unfit_paths((self.ssh_key_file, self.known_hosts_file)):
            yield "ssh_key_file", f'a path with ", $, \\ or control characters is of no use to ssh: {str(path)[:80]!r}'

    @property
    def source(self) -> Source:
        return Source(
            source_id=self.name,
            org=self.org,
            project=self.project,
            url=self.url,
            branch=self.branch,
            path=self.path,
            accepted_rewrite=self.accepted_rewrite,
            takes_over=self.takes_over,
            rules=Rules(self.on_error, self.deletions_max, self.deletions_share),
        )

    @property
    def access(self) -> Access:
        return Access(
            ssh_key_file=self.ssh_key_file,
            known_hosts_file=self.known_hosts_file,
            host_keys=self.host_keys,
            token_file=self.token_file,
            token_user=self.token_user,
            credentials_file=self.credentials_file,
            ca_file=self.ca_file,
        )


def disagreements(sources: Sequence[SourceSettings]) -> Iterator[str]:
    """What is wrong between tables."""
    for name, count in Counter(each.name for each in sources).items():
        if count > 1:
            yield f'{count} are called "{name}"'
    quotas: defaultdict[str, set[str]] = defaultdict(set)
    for each in sources:
        quotas[f"org_quota of {each.org}"].add(each.org_quota)
        quotas[f"project_quota of {each.org}/{each.project}"].add(each.project_quota)
    for what, said in sorted(quotas.items()):
        if len(said) > 1:
            yield f"the {what} is not the same in all of its tables"
    told = Counter((each.url, each.forge.repository, each.forge.context) for each in sources if each.forge.kind)
    for (url, _, context), count in told.items():
        if count > 1:
            yield f'{count} sources of {url} tell the forge of themselves as "{context}"; give each a forge.context'
