"""Arrays in files: whole or not there, and continued where they stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.data.tfds import array_files

SHAPE = (11, 4, 3, 1)
ROWS = np.arange(11 * 12, dtype=np.uint8).reshape(SHAPE)


def _writer(folder, num_chunk_rows=4):
    return array_files.Writer(folder, SHAPE, np.uint8, num_chunk_rows)


def _written(folder):
    writer = _writer(folder)
    for i in range(0, 11, 3):
        writer.append(i, ROWS[i : i + 3])
    writer.finish()


def test_an_array_is_read_as_it_was_written_and_from_its_file(tmp_path):
    folder = tmp_path / "deep" / "images"
    assert not array_files.exists(folder)
    _written(folder)
    assert array_files.exists(folder)
    array = array_files.opened(folder)
    assert isinstance(array, np.memmap)
    assert array.dtype == np.uint8
    assert (array == ROWS).all()
    # A slice is a view of the same file.
    assert np.shares_memory(array[3:], array)
    array_files.verify(folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "array.npy",
        "manifest.json",
    ]
    assert [p.name for p in folder.parent.iterdir()] == ["images"]


def test_an_interrupted_array_goes_on_after_its_last_whole_chunk(tmp_path):
    folder = tmp_path / "images"
    first = _writer(folder)
    first.append(0, ROWS[:10])
    assert first.num_done == 8
    assert not array_files.exists(folder)
    second = _writer(folder)
    assert second.num_done == 8
    # Rows that it has are not taken again, whatever they are.
    second.append(4, np.concatenate([ROWS[4:8] + 1, ROWS[8:]]))
    second.finish()
    assert (array_files.opened(folder) == ROWS).all()
    array_files.verify(folder)


@pytest.mark.parametrize("left", ["half a line", "half a chunk", "no array"])
def test_what_a_crash_leaves_is_never_believed(left, tmp_path):
    folder = tmp_path / "images"
    first = _writer(folder)
    first.append(0, ROWS[:8])
    part = tmp_path / "images.unfinished"
    expected = 8
    if left == "half a line":
        journal = part / "chunks.txt"
        os.truncate(journal, journal.stat().st_size - 5)
        expected = 4
    elif left == "half a chunk":
        with open(part / "array.npy", "ab") as file:
            file.write(b"\xff" * 17)
    else:
        (part / "array.npy").unlink()
        expected = 0
    second = _writer(folder)
    assert second.num_done == expected
    second.append(expected, ROWS[expected:])
    second.finish()
    array_files.verify(folder)
    assert (array_files.opened(folder) == ROWS).all()


_KILLED = """
import pathlib, sys
import numpy as np
from keras_munet.data.tfds import array_files

folder = pathlib.Path(sys.argv[1])
with array_files.locked(folder.parent):
    writer = array_files.Writer(folder, (64, 1000), np.uint8, 1)
    for i in range(writer.num_done, 64):
        writer.append(i, np.full((1, 1000), i, np.uint8))
        print(i, flush=True)
        # A line lets it go on; so does the end of its input.
        sys.stdin.readline()
    writer.finish()
"""


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen]:
    """A process that is killed and waited for at the end, at the latest."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_writer_that_is_killed_again_and_again_ends_in_the_same_bytes(
    tmp_path,
):
    folder = tmp_path / "arrays" / "images"
    command = [sys.executable, "-c", _KILLED, str(folder)]
    for _ in range(3):
        with _started(command) as process:
            # It may be anywhere in the next 6 rows, and never at the end.
            process.stdin.write("\n" * 18)
            process.stdin.flush()
            for _ in range(12):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert not array_files.exists(folder)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    # It did not begin again.
    assert int(done.stdout.split()[0]) >= 3 * 11
    array_files.verify(folder)
    array = array_files.opened(folder)
    assert (array == np.arange(64, dtype=np.uint8)[:, None]).all()


def test_two_processes_never_write_one_array(tmp_path):
    folder = tmp_path / "images"
    with _started([sys.executable, "-c", _KILLED, str(folder)]) as process:
        process.stdout.readline()
        waits = []

        def end_the_other() -> None:
            waits.append(process.poll())
            process.kill()

        with array_files.locked(tmp_path, end_the_other):
            # The system frees the lock of the dead.
            process.wait()
        assert waits == [None]
    with array_files.locked(tmp_path, pytest.fail):
        pass


def test_too_few_rows_are_no_array(tmp_path):
    writer = _writer(tmp_path / "images")
    writer.append(0, ROWS[:9])
    with pytest.raises(ValueError, match="9 rows were written of 11"):
        writer.finish()
    assert not array_files.exists(tmp_path / "images")


def test_a_changed_byte_is_found_by_verify_and_named(tmp_path):
    folder = tmp_path / "images"
    _written(folder)
    file = folder / "array.npy"
    content = bytearray(file.read_bytes())
    content[-30] ^= 1
    file.write_bytes(bytes(content))
    array_files.opened(folder)
    with pytest.raises(errors.DataError, match="rows 8 to 11 were changed"):
        array_files.verify(folder)


@pytest.mark.parametrize("damage", ["short", "gone", "shape", "manifest"])
def test_an_array_that_is_not_whole_is_refused_in_one_line(damage, tmp_path):
    folder = tmp_path / "images"
    _written(folder)
    if damage == "short":
        os.truncate(folder / "array.npy", 200)
    elif damage == "gone":
        (folder / "array.npy").unlink()
    elif damage == "shape":
        np.save(folder / "array.npy", ROWS[:3])
    else:
        (folder / "manifest.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(errors.DataError, match="is damaged") as caught:
        array_files.opened(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(errors.DataError, match="choose another data_dir"),
        array_files.locked(tmp_path / "file" / "deep"),
    ):
        pass
