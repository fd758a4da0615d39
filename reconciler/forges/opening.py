"""A source's forge from its settings. Called by `reconciler.bootstrap`; `Refusal` when the settings cannot be right."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from kit.clock import Clock
from kit.errors import Refusal
from reconciler.forges import gitea, github, gitlab
from reconciler.forges.http import ForgeHttp
from reconciler.forges.rest import RestForge, Token
from reconciler.forges.settings import ForgeSettings, Kind

_PROVIDERS: Mapping[Kind, tuple[type[RestForge], Callable[[str], dict[str, str]]]] = {
    "github": (github.GitHub, github.credentials),
    "gitlab": (gitlab.GitLab, gitlab.credentials),
    "gitea": (gitea.Gitea, gitea.credentials),
}


def open_forge(settings: ForgeSettings, source_url: str, clock: Clock, rng: random.Random) -> RestForge:
    """Nothing is asked yet."""
    provider, credentials = _PROVIDERS[settings.kind_of()]
    if settings.token_file is None:
        raise Refusal("use the source's forge", "no token is named", fix="name its file", code="settings_invalid")
    token = Token(settings.token_file)
    token.read()
    http = ForgeHttp(settings.api_url_for(source_url), lambda: credentials(token.read()), clock, rng, settings.ca_file)
    return provider(http, token, settings.repository_for(source_url), settings.user)
