from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import hypothesis
import memory_files
import ml_dtypes
import numpy as np
import pytest
import store_samples
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.store import codec
from keras_munet.store import objects
from keras_munet.store import storage
from keras_munet.store import tensors

# SHA-256 of an object as the first release wrote it.
GOLDEN_ID = "20e714710bc86e3e927cc707d03a640b09f82222e5aba02676d641467308f794"
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def components(draw):
    shapes = draw(
        st.dictionaries(
            st.text(min_size=1, max_size=8),
            st_numpy.array_shapes(min_dims=0, min_side=0, max_side=4),
            max_size=4,
        )
    )
    spec = specs.ComponentSpec(
        name=draw(st.text(max_size=8)),
        layer=draw(st.text(max_size=8)),
        config=draw(st.dictionaries(st.text(max_size=5), _JSON, max_size=3)),
        weights=tuple(shapes.items()),
    )

    def arrays(dtype):
        return {n: draw(st_numpy.arrays(dtype, s)) for n, s in shapes.items()}

    momentum = arrays(np.uint16) if draw(st.booleans()) else None
    return specs.Component(spec, arrays(np.float32), momentum)


@hypothesis.given(components())
@hypothesis.settings(max_examples=150, deadline=None)
def test_any_component_comes_back_bit_for_bit(component):
    data = codec.encode(component)
    found = codec.decode(data, codec.object_id(data))
    assert store_samples.same(found, component)
    assert codec.encode(found) == data


def test_encoding_is_the_same_every_time():
    component = store_samples.component(momentum=True)
    shuffled = dataclasses.replace(
        component,
        weights=dict(reversed(component.weights.items())),
        momentum={n: a.copy(order="F") for n, a in component.momentum.items()},
    )
    first = codec.encode(component)
    for _ in range(50):
        assert codec.encode(component) == first
        assert codec.encode(shuffled) == first


def test_encoding_is_the_same_in_every_process():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import store_samples;"
        "from keras_munet.store import codec;"
        "c = store_samples.component(momentum=True);"
        "print(codec.object_id(codec.encode(c)))"
    )
    folder = store_samples.__file__.rpartition("/")[0]
    found = {
        subprocess.check_output(
            [sys.executable, "-c", program, folder],
            env={
                **os.environ,
                "PYTHONHASHSEED": str(seed),
                "PYTHONPATH": ":".join(sys.path),
            },
            text=True,
        ).strip()
        for seed in range(3)
    }
    component = store_samples.component(momentum=True)
    assert found == {codec.object_id(codec.encode(component))}


def test_the_bytes_of_format_version_1_stay_the_same():
    data = codec.encode(store_samples.component(momentum=True))
    assert codec.object_id(data) == GOLDEN_ID


def test_objects_are_safetensors_files():
    safetensors = pytest.importorskip("safetensors.numpy")
    component = store_samples.component(momentum=True)
    data = codec.encode(component)
    found = safetensors.load(data)
    assert set(found) == {
        "weights/kernel",
        "weights/bias",
        "momentum/kernel",
        "momentum/bias",
    }
    for name, array in component.weights.items():
        np.testing.assert_array_equal(found[f"weights/{name}"], array)
    for name, array in component.momentum.items():
        np.testing.assert_array_equal(found[f"momentum/{name}"], array)


def test_what_the_safetensors_library_writes_can_be_decoded():
    safetensors = pytest.importorskip("safetensors.numpy")
    component = store_samples.component(momentum=True)
    _, metadata = tensors.header(codec.encode(component))
    arrays = {f"weights/{n}": a for n, a in component.weights.items()}
    arrays |= {f"momentum/{n}": a for n, a in component.momentum.items()}
    data = safetensors.save(arrays, metadata)
    assert store_samples.same(codec.decode(data), component)


def test_decoded_arrays_cannot_be_written_to():
    found = codec.decode(codec.encode(store_samples.component()))
    for array in found.weights.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def _with_kernel(array):
    component = store_samples.component()
    return dataclasses.replace(
        component, weights={**component.weights, "kernel": array}
    )


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (_with_kernel(np.zeros((2, 3))), "float64"),
        (_with_kernel(np.zeros((3, 2), np.float32)), r"\(3, 2\)"),
        (_with_kernel(np.zeros((2, 3), ">f4")), ">f4"),
        (_with_kernel([[0.0] * 3] * 2), "list"),
        (
            dataclasses.replace(store_samples.component(), weights={}),
            "lacks.*weights/bias.*weights/kernel",
        ),
        (
            dataclasses.replace(
                store_samples.component(), momentum={"x": np.zeros(1)}
            ),
            "unexpected.*momentum/x",
        ),
        (
            dataclasses.replace(
                store_samples.component(),
                momentum={
                    "kernel": np.zeros((2, 3), ml_dtypes.bfloat16),
                    "bias": np.zeros((), np.uint16),
                },
            ),
            "bfloat16",
        ),
        (
            specs.Component(
                specs.ComponentSpec("a", "b", {"x": float("nan")}, ()), {}
            ),
            "plain JSON",
        ),
        (
            specs.Component(
                specs.ComponentSpec("a", "b", {}, (("x", ()), ("x", ()))),
                {"x": np.zeros((), np.float32)},
            ),
            "twice",
        ),
    ],
)
def test_values_that_do_not_fit_the_spec_are_refused(component, message):
    with pytest.raises(errors.StoreError, match=message) as info:
        codec.encode(component)
    assert "\n" not in str(info.value)


def _edited(edit):
    """The bytes of a component whose header and data `edit` has changed."""
    data = codec.encode(store_samples.component(momentum=True))
    start = tensors.header_num_bytes(data)
    header = json.loads(data[8:start])
    header, values = edit(header, data[start:])
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def _change(key, **changes):
    def edit(header, values):
        header[key] = {**header[key], **changes}
        return header, values

    return edit


def _change_spec(change):
    def edit(header, values):
        body = json.loads(header["__metadata__"]["spec"])
        header["__metadata__"]["spec"] = json.dumps(change(body))
        return header, values

    return edit


_KERNEL = "weights/kernel"


@pytest.mark.parametrize(
    "edit",
    [
        lambda h, v: (h, v + b"\0"),
        lambda h, v: (h, v[:-1]),
        lambda h, v: ([], v),
        lambda h, v: ({**h, "more": 1}, v),
        lambda h, v: ({k: h[k] for k in h if k != "__metadata__"}, v),
        lambda h, v: ({k: h[k] for k in h if k != _KERNEL}, v),
        lambda h, v: ({**h, "__metadata__": {"spec": 1}}, v),
        lambda h, v: ({**h, "__metadata__": {"spec": "[" * 100_000}}, v),
        lambda h, v: ({**h, "__metadata__": {"spec": "{}", "x": ""}}, v),
        _change(_KERNEL, dtype="F64"),
        _change(_KERNEL, dtype=["F32"]),
        _change(_KERNEL, shape=[3, 2]),
        _change(_KERNEL, shape=[2, 10**30]),
        _change(_KERNEL, shape=[True, 6]),
        _change(_KERNEL, shape=[-2, -3]),
        _change(_KERNEL, shape=[1] * 40 + [6]),
        _change(_KERNEL, shape=[0, 10**30], data_offsets=[0, 0]),
        _change(_KERNEL, data_offsets=[0, 10**30]),
        _change(_KERNEL, data_offsets=[0, 24]),
        _change(_KERNEL, data_offsets=[28, 4]),
        _change(_KERNEL, data_offsets=[0]),
        _change(_KERNEL, extra=1),
        _change_spec(lambda b: {**b, "format_version": 2}),
        _change_spec(lambda b: {**b, "format_version": "1"}),
        _change_spec(lambda b: {**b, "has_momentum": False}),
        _change_spec(lambda b: {**b, "has_momentum": 1}),
        _change_spec(lambda b: {**b, "spec": None}),
        _change_spec(lambda b: {**b, "spec": {**b["spec"], "name": 1}}),
        _change_spec(lambda b: {**b, "spec": {**b["spec"], "config": 1}}),
        _change_spec(lambda b: {**b, "spec": {**b["spec"], "weights": [[1]]}}),
        _change_spec(
            lambda b: {**b, "spec": {**b["spec"], "weights": [["x", ["y"]]]}}
        ),
        _change_spec(lambda b: [b]),
    ],
)
def test_a_hostile_object_is_refused_in_one_line(edit):
    with pytest.raises(errors.StoreError) as info:
        codec.decode(_edited(edit))
    assert str(info.value).isprintable()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (2).to_bytes(8, "little") + b"\xff\xfe",
    ],
)
def test_bytes_that_are_no_object_are_refused(data):
    with pytest.raises(errors.StoreError) as info:
        codec.decode(data)
    assert str(info.value).isprintable()


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=300, deadline=None)
def test_a_mangled_object_is_refused_or_decoded_without_a_crash(data):
    mangled = bytearray(codec.encode(store_samples.component(momentum=True)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mangled) - 1))
        mangled[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3)
        )
    try:
        codec.decode(bytes(mangled))
    except errors.StoreError as error:
        assert "\n" not in str(error)


@pytest.fixture
def files():
    return memory_files.MemoryFiles()


@pytest.fixture
def store(files):
    return objects.ObjectStore(files)


def test_put_and_get_are_inverse(store):
    component = store_samples.component(momentum=True)
    ref = store.put(component)
    assert store_samples.same(store.get(ref), component)
    assert store_samples.same(store.get(ref.id), component)
    assert ref.spec_id == component.spec.spec_id
    assert ref.num_params == 7
    assert store.spec(ref.id) == component.spec
    assert store.num_bytes(ref.id) == len(codec.encode(component))


def test_equal_components_are_stored_once(store, files, monkeypatch):
    first = store.put(store_samples.component())
    monkeypatch.setattr(files, "write_atomic", None)
    assert store.put(store_samples.component()) == first
    assert list(store.ids()) == [first.id]


def test_momentum_makes_another_object(store):
    plain = store.put(store_samples.component())
    trained = store.put(store_samples.component(momentum=True))
    assert plain.id != trained.id
    assert plain.spec_id == trained.spec_id
    assert store.get(plain).momentum is None


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:-1] + b"!"])
def test_putting_a_damaged_object_again_mends_it(store, files, damage):
    component = store_samples.component()
    ref = store.put(component)
    name = codec.file_name(ref.id)
    files.write_atomic(name, damage(files.read(name, 10**6)))
    with pytest.raises(errors.StoreError, match=r"objects/.*is damaged"):
        store.get(ref)
    store.put(component)
    assert store_samples.same(store.get(ref), component)


def test_damage_is_told_with_both_hashes(store, files):
    ref = store.put(store_samples.component())
    name = codec.file_name(ref.id)
    files.write_atomic(name, b"x")
    with pytest.raises(errors.StoreError) as info:
        store.get(ref)
    assert name in str(info.value)
    assert codec.object_id(b"x") in str(info.value)


def test_a_reference_that_lies_is_refused(store):
    ref = store.put(store_samples.component())
    store.get(ref)
    for changes in ({"name": "x"}, {"spec_id": "0" * 16}, {"num_params": 1}):
        with pytest.raises(errors.StoreError, match="its reference says"):
            store.get(dataclasses.replace(ref, **changes))


@pytest.mark.parametrize("object_id", ["", "../../x", "A" * 64, "0" * 63])
def test_what_is_no_object_id_is_refused(store, object_id):
    for call in (store.get, store.has, store.delete, store.spec):
        with pytest.raises(errors.StoreError, match="no object id"):
            call(object_id)


def test_a_missing_object_is_named(store):
    assert not store.has("0" * 64)
    for call in (store.get, store.spec, store.num_bytes):
        with pytest.raises(storage.MissingFileError, match="0" * 64):
            call("0" * 64)


def test_a_deleted_object_is_gone_from_memory_too(store):
    ref = store.put(store_samples.component())
    store.get(ref)
    store.delete(ref.id)
    store.delete(ref.id)
    with pytest.raises(storage.MissingFileError):
        store.get(ref)


def test_the_cache_keeps_the_latest_objects_within_its_bound(files):
    refs = [
        objects.ObjectStore(files).put(store_samples.component(value=i))
        for i in range(3)
    ]
    num_bytes = files.num_bytes(codec.file_name(refs[0].id))
    store = objects.ObjectStore(files, cache_num_bytes=2 * num_bytes)
    first = store.get(refs[0])
    assert store.get(refs[1]) is store.get(refs[1])
    assert store.get(refs[0]) is first
    store.get(refs[2])
    second = store.get(refs[0])
    assert second is first
    names = []
    files.read = lambda name, n: names.append(name) or files.read_head(name, n)
    store.get(refs[0])
    store.get(refs[2])
    assert names == []
    store.get(refs[1])
    assert names == [codec.file_name(refs[1].id)]


def test_reading_a_spec_reads_the_header_only(files, store):
    component = store_samples.component(shape=(500, 500))
    ref = store.put(component)
    sizes = []
    read_head = files.read_head
    files.read_head = lambda name, n: sizes.append(n) or read_head(name, n)
    files.read = None
    assert store.spec(ref.id) == component.spec
    assert sum(sizes) < 50_000


def test_a_header_of_any_length_is_read(store):
    spec = specs.ComponentSpec("a", "b", {"text": "x" * 100_000}, ())
    ref = store.put(specs.Component(spec, {}))
    assert store.spec(ref.id) == spec
