"""A record that is read without its components is the one that was written."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import pickle
import threading

import pytest
import store_samples

from keras_munet import errors
from keras_munet.core import canonical_json
from keras_munet.core import specs
from keras_munet.store import checksummed_json
from keras_munet.store import layout

_NAME = layout.task_file("mnist")
_ID = hashlib.sha256(b"1").hexdigest()
_PLAIN = specs.ComponentRef("encoderblock_0/adapter", _ID, "0" * 16, 12)


@pytest.fixture
def state(tmp_path):
    return store_samples.state(store_samples.create(tmp_path / "system"))


def _with(state, *refs):
    path = dataclasses.replace(state.published, components=refs)
    return dataclasses.replace(state, published=path)


def _sealed(text):
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"body":{text},"sha256":"{digest}"}}\n'.encode()


def _parsed_slowly(data):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(layout, "_parse_quickly", lambda _: None)
        return layout.parse_task(data, _NAME)


@pytest.mark.parametrize(
    "refs",
    [
        (),
        (_PLAIN,),
        (_PLAIN, dataclasses.replace(_PLAIN, name="head", num_params=0)),
        (dataclasses.replace(_PLAIN, name='],["'),),
        (dataclasses.replace(_PLAIN, name="a\\b"), _PLAIN),
        (dataclasses.replace(_PLAIN, name="größe"),),
        (dataclasses.replace(_PLAIN, name='"components":[["'), _PLAIN),
        (dataclasses.replace(_PLAIN, name=""), _PLAIN),
        (dataclasses.replace(_PLAIN, id="no digits"),),
        (dataclasses.replace(_PLAIN, id=f"{_ID[:-1]} "), _PLAIN),
        (dataclasses.replace(_PLAIN, spec_id=","), _PLAIN),
        (dataclasses.replace(_PLAIN, num_params=10**14),),
        (dataclasses.replace(_PLAIN, num_params=2**53 - 1), _PLAIN),
    ],
    ids=lambda refs: "-".join(ref.name for ref in refs) or "none",
)
def test_components_are_what_was_written_whatever_their_texts(state, refs):
    state = _with(state, *refs)
    data = checksummed_json.seal(state.to_json(), _NAME)
    read = layout.parse_task(data, _NAME)
    assert read == _parsed_slowly(data) == state
    assert read.published.component_ids == tuple(ref.id for ref in refs)
    again = layout.parse_task(data, _NAME).published
    assert again.id == state.published.id
    assert again.to_json() == state.published.to_json()
    assert again.components == refs


def test_the_components_of_what_is_read_are_made_when_needed(state):
    data = checksummed_json.seal(state.to_json(), _NAME)
    for use in (
        lambda path: path.components,
        lambda path: path.num_params,
        lambda path: path.with_metrics(score=0.5),
        lambda path: path == state.published,
        repr,
        copy.deepcopy,
        lambda path: pickle.loads(pickle.dumps(path)),
    ):
        path = layout.parse_task(data, _NAME).published
        assert "components" not in vars(path)
        assert path.component_ids and path.id == state.published.id
        assert "components" not in vars(path)
        used = use(path)
        if isinstance(used, specs.PathRecord):
            assert used.components == state.published.components
        assert path.components == state.published.components
        assert [type(r) for r in path.components] == [specs.ComponentRef] * 3
    with pytest.raises(AttributeError, match="weight"):
        _ = path.weight


def test_threads_that_need_components_at_once_all_get_them(state):
    refs = [dataclasses.replace(_PLAIN, name=f"c{i}") for i in range(100)]
    state = _with(state, *refs)
    data = checksummed_json.seal(state.to_json(), _NAME)
    for _ in range(20):
        path = layout.parse_task(data, _NAME).published
        barrier = threading.Barrier(4)
        seen = []

        def look(path=path, barrier=barrier, seen=seen):
            barrier.wait()
            seen.append(path.components)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [state.published.components] * 4


def _odd_texts(state):
    """Yields sealed texts that no state is written as."""
    text = json.dumps(state.to_json(), sort_keys=True, separators=(",", ":"))
    refs = json.dumps(
        [ref.to_json() for ref in state.published.components],
        separators=(",", ":"),
    )
    assert refs in text
    first = f'["{state.published.components[0].name}"'
    for old, new in (
        (refs, refs.replace(",", ", ", 1)),
        (refs, refs.replace(first, f" {first}")),
        (refs, refs.replace('"c0"', '"\\u00630"')),
        (refs, refs.replace('"c0"', '"c\t0"')),
        (refs, refs.replace('"c0"', '"c0","c0"')),
        (refs, refs.replace('"c0"', "0")),
        (refs, refs.replace("]]", ",1]]")),
        (refs, refs.replace("]]", "],[]]")),
        (refs, refs.replace(",7]", ",07]").replace(",7]", ",7.0]")),
        (refs, refs[:-2] + ".0]]"),
        (refs, refs[:-2] + "e0]]"),
        (refs, f"{refs[:-1]},{refs[1:]}"),
        (refs, refs[:-2] + '],["x]]'),
        (refs, refs + '"x]]'),
        (refs, f'{refs},"components":{refs}'),
        (refs, f'[],"components":{refs}'),
        (refs, f'{refs},"components":[]'),
        ('"hparams":{', '"hparams":{"components":[],'),
        ('"hparams":{', f'"hparams":{{"components":{refs},'),
        ('"child_counts":{', f'"child_counts":{{"components":{refs},'),
        ('"metrics":{', '"more":1,"metrics":{'),
        ('"born":[', f'"components":{refs},"born":['),
    ):
        assert old in text
        if text.replace(old, new) != text:
            yield text.replace(old, new)


def test_a_text_that_no_state_is_written_as_is_refused(state):
    odd_texts = list(_odd_texts(state))
    assert len(odd_texts) >= 18
    for text in odd_texts:
        for parse in (
            lambda data: layout.parse_task(data, _NAME),
            _parsed_slowly,
        ):
            with pytest.raises(errors.StoreError):
                parse(_sealed(text))


@pytest.mark.parametrize("escaped", ["\\t", "\\n", "\\u0001", "\\u007f"])
def test_a_character_that_json_escapes_is_escaped(state, escaped):
    character = json.loads(f'"{escaped}"')
    for changed in (
        {"id": f"{_ID[:-1]}{character}"},
        {"name": f"head{character}"},
        {"spec_id": f"{character}{'0' * 15}"},
    ):
        odd = _with(state, _PLAIN, dataclasses.replace(_PLAIN, **changed))
        data = checksummed_json.seal(odd.to_json(), _NAME)
        text = data.decode()[8:-78]
        for raw in (text, text.replace(escaped, character)):
            # Neither is the text of a component.
            with pytest.raises(errors.StoreError):
                layout.parse_task(_sealed(raw), _NAME)


def test_an_id_that_fits_a_raw_character_is_refused(state):
    odd = _with(state, dataclasses.replace(_PLAIN, id=f"{_ID[:-1]}\t"))
    path = odd.published
    made_from = [
        path.task,
        path.parent,
        list(path.created_in),
        dict(path.hparams),
    ]
    text = canonical_json.dumps(made_from)
    made_from_text = f'{text[:-1]},["{path.component_ids[0]}"]]'
    path_id = hashlib.sha256(made_from_text.encode()).hexdigest()[:24]
    raw = canonical_json.dumps(odd.to_json()).replace("\\t", "\t")
    with pytest.raises(errors.StoreError):
        layout.parse_task(_sealed(raw.replace(path.id, path_id)), _NAME)


def test_a_changed_byte_of_a_component_is_noticed(state):
    data = checksummed_json.seal(state.to_json(), _NAME)
    start = data.index(b'"components":')
    for position in range(start, data.index(b']],"hparams"')):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(errors.StoreError, match="damaged"):
            layout.parse_task(bytes(changed), _NAME)
