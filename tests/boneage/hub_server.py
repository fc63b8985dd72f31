"""A stand-in of the Hugging Face hub: repositories in memory, behind the part of its API that this package uses."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class HubServer:
    """Repositories by `owner/name`; `requests` are method and path of all that was asked.

    A repository is `private`, `commits` (files by commit, in order) and `names` (commits of branches and tags). Where
    `token` is set, it must come with each request of a private repository and with each change.
    """

    def __init__(self):
        self.repositories, self.requests, self.token = {}, [], None
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def create(self, repository, *, private=False):
        self.repositories[repository] = {"private": private, "commits": {}, "names": {}}
        return self.commit(repository, {".gitattributes": b""})

    def commit(self, repository, changes, *, names=("main",)):
        """Add a commit; `changes` are contents by file, None for a file that goes."""
        kept = self.repositories[repository]
        last = kept["commits"].get(kept["names"].get("main"), {})
        files = {name: content for name, content in {**last, **changes}.items() if content is not None}
        described = repr((len(kept["commits"]), sorted(files.items()))).encode()
        commit = hashlib.sha1(described).hexdigest()
        kept["commits"][commit] = files
        kept["names"].update(dict.fromkeys(names, commit))
        return commit

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server_hub.requests.append(f"{self.command} {path}")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if (found := self._find(match[1], match[2] or "main")) is not None:
                commit, files = found
                siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                private = self.server_hub.repositories[match[1]]["private"]
                self._answer({"id": match[1], "sha": commit, "private": private, "siblings": siblings})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if (found := self._find(match[1], match[2])) is not None:
                commit, files = found
                content = files.get(match[3])
                if content is None:
                    self._refuse(404, "EntryNotFound")
                else:
                    etag = f'"{hashlib.sha1(content).hexdigest()}"'
                    self._answer(content, headers={"X-Repo-Commit": commit, "ETag": etag})
        else:
            self._refuse(404, "NotHere")

    do_HEAD = do_GET

    def do_POST(self):
        path, hub = unquote(urlsplit(self.path).path), self.server_hub
        hub.requests.append(f"{self.command} {path}")
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif not self._may():
            self._refuse(401, "NoToken")
        elif path == "/api/repos/create":
            asked = json.loads(content)
            repository = f"{asked.get('organization') or 'me'}/{asked['name']}"
            hub.create(repository, private=bool(asked.get("private")) or asked.get("visibility") == "private")
            self._answer({"url": f"{hub.url}/{repository}"})
        elif re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/main", path):
            files = json.loads(content)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self._answer({"files": modes})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            header, *changes = [json.loads(line) for line in content.splitlines()]
            parent = header["value"].get("parentCommit")
            if parent not in (None, hub.repositories[match[1]]["names"]["main"]):
                self._refuse(412, "Moved")
                return
            contents = {
                change["value"]["path"]: base64.b64decode(change["value"]["content"])
                if change["key"] == "file"
                else None
                for change in changes
            }
            commit = hub.commit(match[1], contents)
            self._answer({"commitUrl": f"{hub.url}/{match[1]}/commit/{commit}", "commitOid": commit})
        else:
            self._refuse(404, "NotHere")

    def _may(self):
        token = self.server_hub.token
        return token is None or self.headers.get("Authorization") == f"Bearer {token}"

    def _find(self, repository, revision):
        """Return commit and files, or refuse."""
        kept = self.server_hub.repositories.get(repository)
        if kept is None or (kept["private"] and not self._may()):
            self._refuse(401, "RepoNotFound")
            return None
        commit = kept["names"].get(revision, revision)
        if commit not in kept["commits"]:
            self._refuse(404, "RevisionNotFound")
            return None
        return commit, kept["commits"][commit]

    def _answer(self, content, *, status=200, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status, code):
        self._answer({"error": code}, status=status, headers={"X-Error-Code": code})

    def log_message(self, *arguments):
        pass
