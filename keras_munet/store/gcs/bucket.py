"""Requests to one folder of a Google Cloud Storage bucket.

Invariant: a write is one upload, seen whole or not at all, and is sent
again only if it can be told whether it was done: every write carries an id of
its own, and after an answer that was lost the object is looked at for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import secrets
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

from keras_munet import errors
from keras_munet.store import storage as store_storage

RETRY_SECS = 60.0
_TIMEOUT_SECS = 30.0
_PAUSE_SECS = 0.2
_PAUSE_SECS_MAX = 8.0
# The key of the metadata under which an object says which write made it.
_WRITE_KEY = "write_id"
_NUM_PER_PAGE = 1000
_NUM_CHARS_SHOWN = 160
_ABSENT = 0

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class ObjectInfo:
    """The metadata of an object in a bucket.

    Attributes:
      generation: a number that no two writes of the bucket share.
      num_bytes: its size.
      written: when, by the bucket's clock.
      labels: what it says about itself, besides its bytes.
    """

    generation: int
    num_bytes: int
    written: datetime.datetime
    labels: Mapping[str, str]

    @property
    def write_id(self) -> str:
        """Names the write that made it, `""` if another program did."""
        return self.labels.get(_WRITE_KEY, "")


class Bucket:
    """The objects of a folder; they are named without the folder.

    Args:
      bucket: its name.
      folder: the beginning of every object's name, without a last `/`; `""`
        for the whole bucket.
      retry_secs: how long a request is made again that fails in passing.
    """

    def __init__(
        self, bucket: str, folder: str, retry_secs: float = RETRY_SECS
    ):
        self._name = bucket
        self._above = f"{folder}/" if folder else ""
        self._retry_secs = retry_secs
        # The library's client is for one thread.
        self._of_thread = threading.local()

    @property
    def where(self) -> str:
        """The folder as people write it."""
        return f"gs://{self._name}/{self._above}".rstrip("/")

    def find(self, name: str) -> ObjectInfo | None:
        """Returns what is known about an object; None if there is none."""
        with self._named(name, "looked up"):
            return self._again(lambda: self._find(name))

    def read(
        self,
        name: str,
        info: ObjectInfo,
        num_bytes: int | None = None,
        start: int = 0,
    ) -> bytes | None:
        """Returns the bytes of an object as it was found.

        Args:
          name: of the object.
          info: what `find` returned.
          num_bytes: how many to read; None for all.
          start: the first byte to read.

        Returns:
          None if it has been replaced or deleted since.
        """
        end = info.num_bytes
        if num_bytes is not None:
            end = min(start + num_bytes, end)
        if start >= end:
            return b""
        is_part = (start, end) != (0, info.num_bytes)
        from google.api_core import exceptions

        def attempt() -> bytes | None:
            blob = self._bucket().blob(
                self._above + name, generation=info.generation
            )
            try:
                # Raw: what is stored, however it says that it is packed.
                return blob.download_as_bytes(
                    start=start if is_part else None,
                    end=end - 1 if is_part else None,
                    raw_download=True,
                    timeout=_TIMEOUT_SECS,
                    retry=None,
                )
            except exceptions.NotFound:
                return None

        with self._named(name, "read"):
            return self._again(attempt)

    def write(
        self,
        name: str,
        data: bytes,
        generation: int | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        verify: Callable[[], None] | None = None,
    ) -> int | None:
        """Writes an object in one step.

        Args:
          name: of the object.
          data: what it shall hold.
          generation: it is written only if the object has this one; 0 if
            there must be none; None in any case.
          labels: what it shall say about itself.
          verify: called right before every upload; may raise.

        Returns:
          The new generation; None if the object has another one than given.
        """
        from google.api_core import exceptions

        write_id = secrets.token_hex(12)
        was_sent = False

        def attempt() -> int | None:
            nonlocal was_sent
            if was_sent:
                # The answer to the attempt before was lost or bad.
                info = self._find(name)
                if info is not None and info.write_id == write_id:
                    return info.generation
                now = info.generation if info else _ABSENT
                if generation not in (None, now):
                    return None
            if verify is not None:
                verify()
            was_sent = True
            blob = self._bucket().blob(self._above + name)
            blob.metadata = {**(labels or {}), _WRITE_KEY: write_id}
            try:
                blob.upload_from_string(
                    data,
                    content_type="application/octet-stream",
                    if_generation_match=generation,
                    timeout=_TIMEOUT_SECS,
                    retry=None,
                )
            except exceptions.PreconditionFailed:
                # Perhaps by an attempt of this write that came late.
                info = self._find(name)
                same = info is not None and info.write_id == write_id
                return info.generation if info and same else None
            return int(blob.generation)

        with self._named(name, "written"):
            return self._again(attempt)

    def delete(
        self,
        name: str,
        generation: int | None = None,
        *,
        verify: Callable[[], None] | None = None,
    ) -> bool:
        """Removes an object.

        Args:
          name: of the object.
          generation: it is removed only if it has this one; None in any case.
          verify: called right before every request; may raise.

        Returns:
          True if it is gone, False if it has another generation than given.
          After an answer that was lost, also if another removed it.
        """
        from google.api_core import exceptions

        was_sent = False

        def attempt() -> bool:
            nonlocal was_sent
            if verify is not None:
                verify()
            before, was_sent = was_sent, True
            blob = self._bucket().blob(self._above + name)
            try:
                blob.delete(
                    if_generation_match=generation,
                    timeout=_TIMEOUT_SECS,
                    retry=None,
                )
            except exceptions.PreconditionFailed:
                return False
            except exceptions.NotFound:
                return generation is None or before
            return True

        with self._named(name, "deleted"):
            return self._again(attempt)

    def list(
        self,
        start: str = "",
        *,
        num_max: int | None = None,
        is_flat: bool = False,
        first: str = "",
    ) -> Iterator[tuple[str, ObjectInfo]]:
        """Yields (name, what is known) of objects, sorted by name.

        Args:
          start: what their names begin with.
          num_max: the most to yield, a page at most.
          is_flat: whether to leave out names with a `/` after `start`.
          first: the name to begin with, or that comes next; `""` for all.
        """
        token: str | None = None
        num_left = num_max
        while True:

            def page(token: str | None = token) -> tuple[list[Any], str | None]:
                pages = self._client().list_blobs(
                    self._name,
                    prefix=self._above + start,
                    start_offset=self._above + first if first else None,
                    delimiter="/" if is_flat else None,
                    page_size=num_max or _NUM_PER_PAGE,
                    page_token=token,
                    timeout=_TIMEOUT_SECS,
                    retry=None,
                )
                blobs = list(next(pages.pages, ()))
                return blobs, pages.next_page_token

            with self._named(start, "listed"):
                blobs, token = self._again(page)
            for blob in blobs:
                name = blob.name[len(self._above) :]
                # Some programs show a folder by an empty object.
                if name and not (name.endswith("/") and blob.size == 0):
                    yield name, _object_info(blob)
                    if num_left is not None:
                        num_left -= 1
                        if num_left == 0:
                            return
            if not token:
                return

    def _find(self, name: str) -> ObjectInfo | None:
        blob = self._bucket().get_blob(
            self._above + name, timeout=_TIMEOUT_SECS, retry=None
        )
        return None if blob is None else _object_info(blob)

    def _again(self, attempt: Callable[[], _Result]) -> _Result:
        """Calls `attempt` until it does not fail in passing any more."""
        from google.cloud.storage import retry

        policy = retry.DEFAULT_RETRY.with_timeout(self._retry_secs)
        policy = policy.with_delay(
            initial=_PAUSE_SECS, maximum=_PAUSE_SECS_MAX, multiplier=2.0
        )
        return policy(attempt)()

    def _client(self) -> Any:
        client = getattr(self._of_thread, "client", None)
        if client is None:
            from google.cloud import storage

            # The project matters only to who makes buckets.
            client = storage.Client(project=None)
            self._of_thread.client = client
        return client

    def _bucket(self) -> Any:
        return self._client().bucket(self._name)

    @contextlib.contextmanager
    def _named(self, name: str, action: str) -> Iterator[None]:
        """Turns what the library raises in its block into a StoreError."""
        import requests
        from google.api_core import exceptions
        from google.auth import exceptions as auth_exceptions
        from google.cloud.storage import exceptions as storage_exceptions

        try:
            yield
        except errors.MunetError:
            raise
        except exceptions.NotFound as error:
            raise self._refused(
                name, action, error, "check that the bucket exists"
            ) from error
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise self._refused(
                name,
                action,
                error,
                "give this account the right to read, write, list and delete",
            ) from error
        except auth_exceptions.GoogleAuthError as error:
            raise self._refused(
                name,
                action,
                error,
                "log in with `gcloud auth application-default login`",
            ) from error
        except (
            exceptions.GoogleAPIError,
            storage_exceptions.InvalidResponse,
            storage_exceptions.DataCorruption,
            requests.RequestException,
            OSError,
            ValueError,
        ) as error:
            raise self._refused(
                name, action, error, "check the network and run again"
            ) from error

    def _refused(
        self, name: str, action: str, error: Exception, advice: str
    ) -> errors.StoreError:
        reason = " ".join(str(error).split())[:_NUM_CHARS_SHOWN]
        url = f"{self.where}/{name}".rstrip("/")
        return errors.StoreError(
            f"{url} cannot be {action}: {type(error).__name__}: {reason}; "
            f"{advice}"
        )


def parse_url(text: str) -> tuple[str, str]:
    """Returns (bucket, folder) of a text like `gs://bucket/folder`.

    Raises:
      UsageError: it is none, or the library that reaches it is not there.
    """
    bucket, _, folder = text.removeprefix("gs://").rstrip("/").partition("/")
    try:
        if "/" in store_storage.check_name(bucket) or not folder:
            raise errors.StoreError("no folder is named")
        store_storage.check_name(folder)
    except errors.StoreError as error:
        raise errors.UsageError(
            f"{text!a} is no folder that can hold a system: {error}; give "
            "gs://BUCKET/FOLDER"
        ) from error
    try:
        import google.cloud.storage  # noqa: F401
    except ImportError as error:
        raise errors.UsageError(
            f"{text} needs google-cloud-storage, which is not installed; "
            "install it with `pip install 'keras_munet[gcs]'`, or use a local "
            "folder"
        ) from error
    return bucket, folder


def _object_info(blob: Any) -> ObjectInfo:
    return ObjectInfo(
        int(blob.generation),
        int(blob.size),
        blob.updated,
        {key: str(value) for key, value in (blob.metadata or {}).items()},
    )
