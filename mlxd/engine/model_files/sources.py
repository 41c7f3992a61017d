"""What may name a model: `demo`, a folder, or a repository of the hub, by its name or its page.

Whatever reaches a URL or a path of the cache has gone through `repository`.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote

DEMO = "demo"
MAX_NAME, MAX_REVISION = 96, 200
"""Characters of a repository's name, as the hub limits it, and of a revision."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)"
    r"(?:/(?:tree|blob|resolve|commit|commits)/([^/?#]+)(?:/[^?#]*)?|/discussions(?:/[^?#]*)?)?"
    r"/?(?:[?#].*)?",
    re.IGNORECASE,
)
"""The address of a repository's page, as a browser shows it."""
OTHER_PAGES = ("datasets", "spaces", "models", "docs", "api", "collections", "papers", "blog")
"""What stands on the hub in an owner's place and is none."""
MAIN = "main"


class Repository(NamedTuple):
    """A repository of the hub; without a `revision` its main branch."""

    name: str
    revision: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


def repository(source: str) -> Repository | None:
    """The repository that a source names; None if it names none."""
    if page := PAGE.fullmatch(source):
        name, revision = page[1], unquote(page[2] or "")
        if name.partition("/")[0].lower() in OTHER_PAGES:
            return None
    else:
        name, _, revision = source.partition("@")
        if source.endswith("@"):
            return None
    if not _is_name(name) or (revision and not _is_revision(revision)):
        return None
    return Repository(name, "" if revision == MAIN else revision)


def _is_name(name: str) -> bool:
    # The hub itself has no names with these, and the cache writes a slash as two dashes.
    sound = "--" not in name and ".." not in name and not name.endswith((".git", "-", "."))
    return sound and len(name) <= MAX_NAME and NAME.fullmatch(name) is not None


def _is_revision(revision: str) -> bool:
    sound = ".." not in revision and len(revision) <= MAX_REVISION
    return sound and REVISION.fullmatch(revision) is not None
