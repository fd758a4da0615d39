"""Which pull request a commit's message says that it comes from. Pure.

Forges write it into the messages of the merges that they make, each in its own words. Anybody can write such a message,
so it is a claim, and is shown as what the message says.
"""

from __future__ import annotations

import re

MESSAGE_CHARS_MAX = 10_000
_NUMBER = r"([0-9]{1,10})\b"
_SUBJECTS = (
    (re.compile(rf"Merge pull request #{_NUMBER}"), "#"),  # GitHub, Bitbucket Server
    (re.compile(rf"Merged in .{{1,200}} \(pull request #{_NUMBER}\)"), "#"),  # Bitbucket
    (re.compile(rf"Merge pull request '.{{0,300}}' \(#{_NUMBER}\) from "), "#"),  # Gitea, Forgejo
    (re.compile(rf".{{0,400}}\(#{_NUMBER}\)$"), "#"),  # squashed, at GitHub, Gitea and Forgejo
    (re.compile(rf".{{0,400}}\(!{_NUMBER}\)$"), "!"),
)
_GITLAB = re.compile(rf"^See merge request [A-Za-z0-9_./-]{{0,300}}!{_NUMBER}\s*$", re.MULTILINE)


def pull_request_of(message: str) -> str:
    """#12, or !12 as GitLab writes it; "" when the message names none."""
    text = message[:MESSAGE_CHARS_MAX].strip()
    subject = text.split("\n", 1)[0].strip()
    for pattern, sign in _SUBJECTS:
        if found := pattern.match(subject):
            return sign + found[1]
    found = _GITLAB.search(text)
    return f"!{found[1]}" if found else ""
