"""A picture file has the same pixels through every door."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import struct

import numpy as np
import picture_samples
import pytest
import tensorflow as tf

from keras_munet.data import picture_decoder
from keras_munet.data.own import images as own_images

_SAMPLES = picture_samples.samples()
_DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


@functools.cache
def _served(webp):
    return tf.function(
        functools.partial(picture_decoder.decoded, webp=webp),
        autograph=False,
        input_signature=[tf.TensorSpec([], tf.string)],
    )


@pytest.mark.parametrize("sample", _SAMPLES, ids=lambda s: s.kind)
def test_a_file_is_decoded_as_its_author_sees_it(sample):
    read = own_images.picture(sample.content)
    pixels = np.broadcast_to(read.pixels, (*read.pixels.shape[:2], 3))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(
        pixels, picture_samples.reference(sample.content)
    )
    assert bool(read.unserved) == (not sample.served)
    assert own_images.size_of(sample.content) == pixels.shape[:2]


@pytest.mark.parametrize("webp", [False, True])
@pytest.mark.parametrize("sample", _SAMPLES, ids=lambda s: s.kind)
def test_serving_decodes_the_same_pixels_or_refuses(sample, webp):
    if sample.served or (webp and sample.webp):
        read = own_images.decoded(sample.content)
        np.testing.assert_array_equal(
            _served(webp)(sample.content),
            np.broadcast_to(read, (*read.shape[:2], 3)),
        )
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match="send"):
        _served(webp)(sample.content)


@pytest.mark.parametrize(
    ("bits", "used"), [(8, 8), (7, 8), (10, 12), (12, 12), (14, 16), (16, 16)]
)
def test_wide_files_tell_how_many_bits_they_use(bits, used):
    content = picture_samples.png(0, 16, picture_samples.wide(bits, 1))
    assert own_images.picture(content).wide_bits == used


def test_other_files_have_no_wide_bits():
    assert {
        own_images.picture(s.content).wide_bits
        for s in _SAMPLES
        if "16 bits" not in s.kind
    } == {0}


def _cut(sample):
    return sample.content[: len(sample.content) // 4]


@pytest.mark.parametrize(
    "sample",
    [s for s in _SAMPLES if s.served and "PNG, 1 bit" not in s.kind],
    ids=lambda s: s.kind,
)
def test_half_a_file_is_refused_by_every_door(sample):
    with pytest.raises(own_images.UnusableImageError):
        own_images.decoded(_cut(sample))
    with pytest.raises(tf.errors.OpError):
        _served(True)(_cut(sample))


def _stating(width, height):
    head = picture_samples.png(2, 8, np.zeros((1, 1, 3), np.uint8))
    return head[:16] + struct.pack(">II", width, height) + head[24:]


@pytest.mark.parametrize(
    "size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 5), (2**31, 9)]
)
def test_a_size_out_of_bounds_is_refused_by_the_head(size):
    with pytest.raises(tf.errors.InvalidArgumentError, match="pixels; send"):
        _served(False)(_stating(*size))
    with pytest.raises(own_images.UnusableImageError):
        own_images.decoded(_stating(*size))


@pytest.mark.parametrize("seed", range(40))
def test_changed_bytes_end_in_pixels_or_a_refusal(seed):
    rng = np.random.default_rng(seed)
    content = bytearray(_SAMPLES[seed % len(_SAMPLES)].content)
    for at in rng.integers(0, len(content), 8):
        content[at] = rng.integers(0, 256)
    try:
        pixels = own_images.decoded(bytes(content))
    except own_images.UnusableImageError as error:
        assert "\n" not in str(error)
    else:
        assert pixels.ndim == 3
    with contextlib.suppress(tf.errors.OpError):
        assert _served(False)(bytes(content)).shape[-1] == 3


def test_no_constant_of_the_graph_is_other_than_utf8():
    graph = _served(True).get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node]
    for function in graph.library.function:
        nodes += function.node_def
    texts = [
        text
        for node in nodes
        if node.op == "Const"
        for text in node.attr["value"].tensor.string_val
    ]
    assert texts
    assert all(max(text, default=0) < 0x80 for text in texts)


@pytest.mark.parametrize("shape", [(40, 70, 3), (5, 9, 1), (33, 33, 3)])
def test_preparing_and_serving_shrink_alike(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = own_images.resized(pixels, 16, 24)
    np.testing.assert_array_equal(
        found, picture_decoder.resized(pixels[np.newaxis], 16, 24)[0]
    )
    assert found.dtype == np.uint8


def test_the_table_of_doors_in_the_docs_is_this_one():
    page = (_DOCS / "pictures.md").read_text(encoding="utf-8")
    assert picture_samples.table() in page
