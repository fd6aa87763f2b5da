"""A stand-in for the Hugging Face Hub: the part of its API that is used.

It runs in this process on a free port and knows model repositories, commits
with files in them or in large-file storage, revisions and tokens.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re

import local_service

TOKEN = "hf_standin"
# What the Hub keeps outside of git.
_LARGE = (".tar",)


class Hub:
    """The repositories of a service.

    Attributes:
      repositories: name -> list of commits, each file name -> bytes.
      private: names of the private ones.
      large: SHA-256 -> bytes that were uploaded.
      requests: (method, path) of all requests.
      cards: the texts whose metadata were validated.
    """

    def __init__(self):
        self.repositories = {}
        self.private = set()
        self.large = {}
        self.requests = []
        self.cards = []

    def files(self, name, revision="main"):
        """Returns the files of a commit; None if there is none."""
        commits = self.repositories.get(name)
        if not commits:
            return None
        if revision == "main":
            return commits[-1]
        matches = (c for i, c in enumerate(commits) if oid(i) == revision)
        return next(matches, None)


def oid(number):
    """Returns the id of a commit by its number."""
    return f"{number + 1:040x}"


@contextlib.contextmanager
def serving():
    """Yields (its URL, its Hub) of a service that ends with the block."""
    hub = Hub()

    class Handler(_Handler):
        service = hub

    with local_service.serving(Handler) as url:
        yield url, hub


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Hub

    def do_HEAD(self):
        self._download(with_body=False)

    def do_GET(self):
        name = self.path.removeprefix("/api/models/")
        if name in self.service.repositories:
            self._body()
            private = name in self.service.private
            self._json(200, {"id": name, "private": private})
            return
        self._download(with_body=True)

    def do_PUT(self):
        data = self._body()
        self.service.large[hashlib.sha256(data).hexdigest()] = data
        self._answer(200, b"")

    def do_POST(self):
        body = self._body()
        path = self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            self.service.cards.append(json.loads(body)["content"])
            self._json(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json(401, {"error": "Invalid credentials"})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = json.loads(body)["files"]
            self._json(200, {"files": [_mode(f["path"]) for f in files]})
        elif match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            self._batch(json.loads(body))
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self._commit(match[1], body)
        else:
            self._json(404, {"error": f"{path} is unknown"})

    def _create(self, request):
        name = f"{request.get('organization', 'me')}/{request['name']}"
        exists = name in self.service.repositories
        self.service.repositories.setdefault(name, [])
        private = (
            request.get("private") or request.get("visibility") == "private"
        )
        if private and not exists:
            self.service.private.add(name)
        self._json(
            409 if exists else 200,
            {"url": f"{self._root()}/{name}", "name": name},
        )

    def _batch(self, request):
        answers = []
        for item in request["objects"]:
            href = f"{self._root()}/storage/{item['oid']}"
            actions = {"upload": {"href": href}}
            answers.append(item | {"actions": actions})
        self._json(200, {"transfer": "basic", "objects": answers})

    def _commit(self, name, body):
        commits = self.service.repositories.get(name)
        if commits is None:
            self._json(404, {"error": "no repository"})
            return
        files = dict(commits[-1]) if commits else {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.service.large[value["oid"]]
        commits.append(files)
        number = oid(len(commits) - 1)
        url = f"{self._root()}/{name}/commit/{number}"
        self._json(
            200, {"success": True, "commitOid": number, "commitUrl": url}
        )

    def _download(self, *, with_body):
        self.service.requests.append((self.command, self.path))
        match = re.fullmatch(r"/(.+/.+)/resolve/([^/]+)/(.+)", self.path)
        files = match and self.service.files(match[1], match[2])
        if not match or files is None or match[3] not in files:
            code = "EntryNotFound" if files is not None else "RepoNotFound"
            self._answer(404, b"", {"X-Error-Code": code})
            return
        data = files[match[3]]
        digest = hashlib.sha256(data).hexdigest()
        commits = self.service.repositories[match[1]]
        self._answer(
            200,
            data,
            {
                "ETag": f'"{digest}"',
                "X-Linked-Size": str(len(data)),
                "X-Repo-Commit": oid(commits.index(files)),
            },
            with_body=with_body,
        )

    def _root(self):
        return f"http://{self.headers['Host']}"

    def _body(self):
        self.service.requests.append((self.command, self.path))
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, status, value):
        self._answer(
            status,
            json.dumps(value).encode(),
            {"Content-Type": "application/json"},
        )

    def _answer(self, status, data, headers=None, *, with_body=True):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *args):
        del args


def _mode(path):
    mode = "lfs" if path.endswith(_LARGE) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False}
