"""Components as immutable files that are named by what they hold.

Invariant: an object's name is the SHA-256 of its bytes, so an object never
changes, equal components are stored once, and damage shows whenever an object
is read.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import codec
from keras_munet.store import storage
from keras_munet.store import tensors

# The largest published block (ViT-L) has 0.1 GB with its momentum.
OBJECT_NUM_BYTES_MAX = 4 << 30
CACHE_NUM_BYTES = 256 << 20
_HEAD_NUM_BYTES = 16 << 10


class ObjectStore:
    """The components of one system.

    Args:
      files: where they lie.
      cache_num_bytes: how many bytes of decoded objects are kept in memory,
        least recently used first to go; 0 keeps none.

    Attributes:
      written: ids of objects that `put` wrote.
    """

    def __init__(
        self,
        files: storage.Storage,
        *,
        cache_num_bytes: int = CACHE_NUM_BYTES,
    ):
        self._files = files
        self._cache_num_bytes_max = cache_num_bytes
        self._cache_num_bytes = 0
        self._cache: collections.OrderedDict[
            str, tuple[specs.Component, int]
        ] = collections.OrderedDict()
        self._mutex = threading.Lock()
        self.written: set[str] = set()

    def put(self, component: specs.Component) -> specs.ComponentRef:
        """Stores a component and returns its reference.

        When this returns, the object survives a power loss. Nothing is
        written if it is there already; a damaged one is replaced.

        Raises:
          StoreError: the values do not fit the spec, or the write failed.
        """
        data = codec.encode(component)
        ref_id = codec.object_id(data)
        name = codec.file_name(ref_id)
        if self._is_stored(name, data):
            # Its writer may have been killed before it was durable.
            self._files.sync(name)
        else:
            self.written.add(ref_id)
            self._files.write_atomic(name, data)
        spec = component.spec
        return specs.ComponentRef(
            spec.name, ref_id, spec.spec_id, spec.num_params
        )

    def get(self, ref: specs.ComponentRef | str) -> specs.Component:
        """Returns a component; its arrays are read-only.

        Args:
          ref: a reference, which the object must agree with, or an id.

        Raises:
          MissingFileError: there is no such object.
          StoreError: it is damaged, or is not what the reference says.
        """
        ref_id = ref if isinstance(ref, str) else ref.id
        component = self._cached(ref_id)
        if component is None:
            name = codec.file_name(ref_id)
            data = self._files.read(name, OBJECT_NUM_BYTES_MAX)
            component = codec.decode(data, ref_id)
            self._keep(ref_id, component, len(data))
        if not isinstance(ref, str):
            check_ref(ref, component.spec)
        return component

    def has(self, object_id: str) -> bool:
        """Returns whether there is an object of this id."""
        return self._files.exists(codec.file_name(object_id))

    def ids(self) -> Iterator[str]:
        """Yields the ids of all objects, sorted."""
        for name in self._files.list(codec.OBJECTS_DIR):
            object_id = codec.id_of_file(name)
            if object_id is not None:
                yield object_id

    def delete(self, object_id: str) -> None:
        """Removes an object; one that does not exist is no error."""
        with self._mutex:
            _, num_bytes = self._cache.pop(object_id, (None, 0))
            self._cache_num_bytes -= num_bytes
        self._files.delete(codec.file_name(object_id))

    def num_bytes(self, object_id: str) -> int:
        """Returns the size of an object's file."""
        return self._files.num_bytes(codec.file_name(object_id))

    def spec(self, object_id: str) -> specs.ComponentSpec:
        """Returns what an object is, from its header alone.

        The values are neither read nor verified; `get` does that.

        Raises:
          MissingFileError: there is no such object.
          StoreError: the header is not that of a component.
        """
        name = codec.file_name(object_id)
        head = self._files.read_head(name, _HEAD_NUM_BYTES)
        try:
            num_bytes = tensors.header_num_bytes(head)
        except ValueError as error:
            raise codec.not_a_component(f"object {object_id}", error) from error
        if num_bytes > len(head):
            head = self._files.read_head(name, num_bytes)
        return codec.spec_of(head, object_id)

    def _is_stored(self, name: str, data: bytes) -> bool:
        try:
            if self._files.num_bytes(name) != len(data):
                return False
            return self._files.read(name, len(data)) == data
        except storage.MissingFileError:
            return False

    def _cached(self, object_id: str) -> specs.Component | None:
        with self._mutex:
            cached = self._cache.get(object_id)
            if cached is None:
                return None
            self._cache.move_to_end(object_id)
            return cached[0]

    def _keep(
        self, object_id: str, component: specs.Component, num_bytes: int
    ) -> None:
        if num_bytes > self._cache_num_bytes_max:
            return
        with self._mutex:
            if object_id in self._cache:
                return
            self._cache[object_id] = (component, num_bytes)
            self._cache_num_bytes += num_bytes
            while self._cache_num_bytes > self._cache_num_bytes_max:
                _, (_, dropped) = self._cache.popitem(last=False)
                self._cache_num_bytes -= dropped


def check_ref(ref: specs.ComponentRef, spec: specs.ComponentSpec) -> None:
    """Verifies that a reference says the truth about its object.

    Raises:
      StoreError: it does not.
    """
    actual = specs.ComponentRef(
        spec.name, ref.id, spec.spec_id, spec.num_params
    )
    if actual != ref:
        raise errors.StoreError(
            f"object {ref.id} is {actual.to_json()}, its reference says "
            f"{ref.to_json()}; restore the record from a copy of the system"
        )
