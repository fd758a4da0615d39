"""Every bound of the conversations with forges, with its unit and its reason."""

from __future__ import annotations

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 20.0
"""For one try, the whole answer included."""
ANSWER_BYTES_MAX = 16 << 20
"""A page of 100 pull requests with long descriptions is below 10 MiB."""
ERROR_BYTES_MAX = 64 << 10
TRIES_MAX = 3
"""Of a request that may be repeated. What still fails waits for the next pass."""
CONNECTIONS_MAX = 4
PAGE_ITEMS = 100
GITEA_PAGE_ITEMS = 50
"""The most that Gitea gives unless it is told otherwise."""
PULL_PAGES_MAX = 10
COMMENT_PAGES_MAX = 30
STATUS_PAGES_MAX = 10
RETRY_AFTER_S_MAX = 3600.0
"""A forge that wants to be left alone for longer is asked again after this."""
RATE_RESERVE = 20
"""So many of the requests that the forge allows are left for people who use the same account."""
URL_CHARS_MAX = 255
"""Of a status's link: GitLab takes no more. A longer one is left out, since half of it leads nowhere."""
MESSAGE_CHARS_MAX = 300

assert CONNECT_TIMEOUT_S < REQUEST_TIMEOUT_S
assert ERROR_BYTES_MAX < ANSWER_BYTES_MAX
