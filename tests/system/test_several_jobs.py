"""Several jobs that begin one experiment at once work on one system."""

from __future__ import annotations

import concurrent.futures
import threading

import pytest
import system_samples

import keras_munet
from keras_munet import errors


def test_of_several_jobs_that_begin_at_once_one_creates_the_system(tmp_path):
    settings = system_samples.settings()
    num_jobs = 4
    ready = threading.Barrier(num_jobs)

    def begin(_: int) -> str:
        ready.wait()
        made = keras_munet.System.create_or_open(tmp_path / "one", settings)
        return made.root.id

    with concurrent.futures.ThreadPoolExecutor(num_jobs) as pool:
        roots = list(pool.map(begin, range(num_jobs)))
    assert len(set(roots)) == 1
    assert keras_munet.System.open(tmp_path / "one").check() == []


def test_a_folder_of_other_things_is_refused_at_once(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(errors.UsageError, match="not empty"):
        keras_munet.System.create_or_open(tmp_path, system_samples.settings())
