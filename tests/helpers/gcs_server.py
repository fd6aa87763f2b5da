"""A stand-in for a bucket service: the part of its JSON API that is used.

It runs in this process on a free port and knows generations, preconditions,
pages, ranges, checksums, and simple, multipart and resumable uploads. Faults
are injected by `fault`, which runs before every request; `Weather` is one that
takes time, throttles and loses answers as a real service does.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import datetime
import hashlib
import http.server
import itertools
import json
import random
import re
import threading
import time
import urllib.parse

import local_service

# What `fault` may return besides a status: no answer after the work is done.
LOST = -1


class Bucket:
    """The objects and the faults of a service.

    Attributes:
      objects: name -> (bytes, resource as the API shows it).
      fault: called as `fault(method, kind, name)` before each request, `kind`
        one of meta, media, upload, list; returns None, LOST or a status.
      requests: (method, kind, name) of all requests.
      page_size_max: how many items a page may have.
    """

    def __init__(self):
        self.objects = {}
        self.fault = lambda method, kind, name: None
        self.requests = []
        self.page_size_max = 3
        self.uploads = {}
        self.mutex = threading.RLock()
        self.generations = itertools.count(1_700_000_000_000_000)

    def put(self, name, data, metadata=None):
        """Stores an object; returns its resource."""
        with self.mutex:
            resource = {
                "kind": "storage#object",
                "name": name,
                "bucket": "bucket",
                "generation": str(next(self.generations)),
                "metageneration": "1",
                "size": str(len(data)),
                "updated": f"{datetime.datetime.now(datetime.UTC):%FT%T.%fZ}",
                "metadata": metadata or {},
                "md5Hash": _md5(data),
                "crc32c": _crc32c(data),
            }
            self.objects[name] = data, resource
            return resource

    def fits(self, name, query):
        """Whether an object has the generation that a request asks for."""
        wanted = query.get("ifGenerationMatch")
        found = self.objects.get(name)
        now = found[1]["generation"] if found else "0"
        return wanted is None or wanted == now


class Weather:
    """The latency and the faults of a service on a bad day.

    Args:
      seed: of what is drawn.
      latency_secs: the mean time of a request.
      busy_share: of the requests that are answered with 429 or 503.
      lost_share: of the requests whose answer is lost after the work.
      writes_per_sec: that one object takes; more are answered with 429.
      speed: how many of its seconds pass in one of the clock.
    """

    def __init__(
        self,
        seed=0,
        *,
        latency_secs=0.05,
        busy_share=0.01,
        lost_share=0.005,
        writes_per_sec=1.0,
        speed=1.0,
    ):
        self._random = random.Random(seed)
        self._latency_secs = latency_secs / speed
        self._busy_share = busy_share
        self._lost_share = lost_share
        self._pause_secs = 1 / writes_per_sec / speed
        # Name -> when it may be written again, with a burst of two.
        self._next_write = {}
        self._mutex = threading.Lock()
        self.num_faults = collections.Counter()

    def __call__(self, method, kind, name):
        with self._mutex:
            secs = self._random.gammavariate(4, self._latency_secs / 4)
            drawn = self._random.random()
            fault = self._fault(drawn, kind, name)
            if fault is not None:
                self.num_faults[fault] += 1
        time.sleep(secs)
        return fault

    def _fault(self, drawn, kind, name):
        if kind == "upload":
            now = time.monotonic()
            at = self._next_write.get(name, 0.0)
            if now < at - 2 * self._pause_secs:
                return 429
            self._next_write[name] = max(now, at) + self._pause_secs
        if drawn < self._busy_share:
            return 429 if drawn < self._busy_share / 2 else 503
        return LOST if drawn > 1 - self._lost_share else None


@contextlib.contextmanager
def serving():
    """Yields (its URL, its Bucket) of a service that ends with the block."""
    bucket = Bucket()

    class Handler(_Handler):
        service = bucket

    with local_service.serving(Handler) as url:
        yield url, bucket


class _Handler(http.server.BaseHTTPRequestHandler):
    service: Bucket
    protocol_version = "HTTP/1.1"
    # A small answer must not wait for the acknowledgement of its header.
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_PUT(self):
        self._answer()

    def do_DELETE(self):
        self._answer()

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        found = re.fullmatch(
            r"(/upload|/download)?/storage/v1/b/([^/]+)/o(?:/(.*))?", url.path
        )
        if not found:
            # The client asks for the bucket itself in a thread of its own.
            self._send(200, {"name": "bucket", "projectNumber": "1"})
            return
        work, _, name = found.groups()
        name = urllib.parse.unquote(name or query.get("name", ""))
        if work == "/upload":
            kind = "upload"
            call = self._upload
            if query["uploadType"] == "multipart":
                name = _parts(self.headers, body)[0]["name"]
        elif name and self.command == "DELETE":
            kind, call = "meta", self._delete
        elif name:
            kind = "media" if query.get("alt") == "media" else "meta"
            call = self._get
        else:
            kind, call = "list", self._list
        self.service.requests.append((self.command, kind, name))
        fault = self.service.fault(self.command, kind, name)
        if fault not in (None, LOST):
            self._send(fault, {"error": {"code": fault, "message": "injected"}})
            return
        with self.service.mutex:
            status, answer, headers = call(name, query, body)
        if fault == LOST:
            self.close_connection = True
            self.connection.close()
            return
        self._send(status, answer, headers)

    def _get(self, name, query, body):
        with self.service.mutex:
            found = self.service.objects.get(name)
        if found is None:
            return _error(404)
        data, resource = found
        if query.get("generation") not in (None, resource["generation"]):
            return _error(404)
        if query.get("alt") != "media":
            return 200, resource, {}
        headers = {
            "X-Goog-Hash": f"crc32c={resource['crc32c']},"
            f"md5={resource['md5Hash']}",
            "X-Goog-Generation": resource["generation"],
        }
        wanted = re.fullmatch(
            r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""
        )
        if not wanted:
            return 200, data, headers
        start, end = int(wanted[1]), wanted[2]
        if start >= len(data) and data:
            return _error(416)
        part = data[start : int(end) + 1 if end else None]
        headers["Content-Range"] = (
            f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        )
        return (206 if data else 200), part, headers

    def _delete(self, name, query, body):
        if name not in self.service.objects:
            return _error(404)
        if not self.service.fits(name, query):
            return _error(412)
        del self.service.objects[name]
        return 204, b"", {}

    def _list(self, name, query, body):
        start = query.get("prefix", "")
        names = sorted(n for n in self.service.objects if n.startswith(start))
        if query.get("delimiter"):
            names = [n for n in names if "/" not in n[len(start) :]]
        names = [n for n in names if n >= query.get("startOffset", "")]
        names = [n for n in names if n > query.get("pageToken", "")]
        num = int(query.get("maxResults", 1000))
        num = min(num, self.service.page_size_max)
        answer = {"items": [self.service.objects[n][1] for n in names[:num]]}
        if len(names) > num:
            answer["nextPageToken"] = names[num - 1]
        return 200, answer, {}

    def _upload(self, name, query, body):
        kind = query["uploadType"]
        if kind == "multipart":
            resource, data = _parts(self.headers, body)
        elif kind == "resumable" and "upload_id" not in query:
            resource = json.loads(body or b"{}")
            upload = str(len(self.service.uploads))
            self.service.uploads[upload] = resource, query, bytearray()
            host = self.headers["Host"]
            return (
                200,
                b"",
                {
                    "Location": f"http://{host}/upload/storage/v1/b/bucket/o"
                    f"?uploadType=resumable&upload_id={upload}"
                },
            )
        elif kind == "resumable":
            resource, query, got = self.service.uploads[query["upload_id"]]
            got += body
            total = self.headers["Content-Range"].rpartition("/")[2]
            if total == "*" or len(got) < int(total):
                return 308, b"", {"Range": f"bytes=0-{len(got) - 1}"}
            data = bytes(got)
        name = resource["name"]
        if resource.get("md5Hash") not in (None, _md5(data)):
            return _error(400)
        if resource.get("crc32c") not in (None, _crc32c(data)):
            return _error(400)
        if not self.service.fits(name, query):
            return _error(412)
        return 200, self.service.put(name, data, resource.get("metadata")), {}

    def _send(self, status, answer, headers=None):
        data = answer
        if not isinstance(answer, bytes):
            data = json.dumps(answer).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _parts(headers, body):
    """Returns the (resource, bytes) of a multipart upload."""
    boundary = headers["Content-Type"].partition("boundary=")[2].strip("'\"")
    _, first, rest = body.split(b"--" + boundary.encode(), 2)
    resource = json.loads(first.partition(b"\r\n\r\n")[2])
    data = rest.partition(b"\r\n\r\n")[2]
    end = b"\r\n--" + boundary.encode() + b"--"
    assert data.rstrip(b"\r\n").endswith(end)
    return resource, data[: data.rindex(end)]


def _error(status):
    return status, {"error": {"code": status, "message": "as asked"}}, {}


def _md5(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def _crc32c(data):
    import google_crc32c

    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
