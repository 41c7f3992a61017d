"""As much of a hub as its client asks for, on loopback: repositories, revisions, a search."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = "somebody/tiny-model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = ".safetensors"
"""Ends the names of files that are known by their SHA-256."""


@dataclass
class FakeHub:
    """What it has: folders by name of a repository and commit, commits by name of a revision.

    `listed` is what a search answers. `asked` are the requests so far, each with its range. After
    `holds_at` bytes of a large file it sets `holds`, and sends nothing until `release` is set.
    `lies` sends other bytes than it has promised; `sizes` are said in place of the real ones.
    `status` is what it says where it stands for a server of ours.
    """

    folders: dict[tuple[str, str], Path]
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    listed: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    holds_at: int | None = None
    lies: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    holds: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def environment(self, home: Path) -> dict[str, str]:
        """Variables for a process that takes this for the hub, with a cache of its own."""
        settings = {"HF_HOME": str(home / "huggingface"), "XDG_CACHE_HOME": str(home)}
        settings |= {"HOME": str(home), "HF_ENDPOINT": self.address}
        return settings | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "2"}


@contextmanager
def fake_hub(folder: Path | None = None, **about: Any) -> Iterator[FakeHub]:
    """A hub with `folder` as the main branch of `REPOSITORY`."""
    hub = FakeHub({(REPOSITORY, COMMIT): folder} if folder else {}, **about)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def blob_of(path: Path) -> str:
    """What the cache calls a file."""
    return _blob_of(path, path.stat().st_mtime_ns)


@cache
def _blob_of(path: Path, changed: int) -> str:
    data = path.read_bytes()
    if path.suffix == LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        parts = urlsplit(self.path)
        self.hub.asked.append((self.path, self.headers.get("Range", "")))
        if parts.path == "/api/models":
            self.send_json(self.found(parse_qs(parts.query)))
            return
        if parts.path == "/admin/status":
            self.send_json(self.hub.status)
            return
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(tree|revision)/([^/]+))?", parts.path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", parts.path)
        if api:
            self.describe(api[1], api[2] or "", unquote(api[3] or "main"))
        elif file and (folder := self.folder(file[1], commit := unquote(file[2]))):
            self.send_file(folder / unquote(file[3]), commit, with_body=with_body)
        else:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def found(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        assert query["filter"] == ["mlx"]
        words = query["search"][0].lower().split()
        return [one for one in self.hub.listed if all(word in one["id"].lower() for word in words)]

    def folder(self, name: str, revision: str) -> Path | None:
        commit = self.hub.revisions.get(revision, revision)
        return self.hub.folders.get((name, commit))

    def describe(self, name: str, what: str, revision: str) -> None:
        folder = self.folder(name, revision)
        if folder is None:
            known = any(repository == name for repository, _ in self.hub.folders)
            code = "RevisionNotFound" if known else "RepoNotFound"
            self.send(404, b"", {"X-Error-Code": code})
            return
        entries = [self.entry(path) for path in sorted(folder.iterdir())]
        if what == "tree":
            self.send_json(
                [{"type": "file", "path": each["rfilename"], **each} for each in entries]
            )
            return
        commit = self.hub.revisions.get(revision, revision)
        self.send_json({"id": name, "sha": commit, "siblings": entries})

    def entry(self, path: Path) -> dict[str, Any]:
        size, blob = self.hub.sizes.get(path.name, path.stat().st_size), blob_of(path)
        entry = {"rfilename": path.name, "size": size, "blobId": blob[:40], "oid": blob[:40]}
        if path.suffix == LARGE:
            entry["lfs"] = {"sha256": blob, "oid": blob, "size": size, "pointerSize": 1}
        return entry

    def send_file(self, path: Path, commit: str, *, with_body: bool) -> None:
        if not path.is_file():
            self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data, start = path.read_bytes(), 0
        headers = {"ETag": f'"{blob_of(path)}"', "X-Repo-Commit": commit}
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if self.hub.lies:
            data = bytes(len(data))
        large = with_body and path.suffix == LARGE
        held = self.hub.holds_at if large and not self.hub.release.is_set() else None
        length = len(data) - start
        status = 206 if start else 200
        self.send(status, data[start:held], headers, length=length, with_body=with_body)
        if held is not None:
            self.hub.holds.set()
            self.hub.release.wait()

    def send_json(self, value: object) -> None:
        self.send(200, json.dumps(value).encode(), {})

    def send(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str],
        *,
        length: int | None = None,
        with_body: bool = True,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""
