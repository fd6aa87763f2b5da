"""How cores are divided among the children of a generation."""

from __future__ import annotations

import forked
import pytest

from keras_munet.train.devices import cpu_threads

_PROGRAM = """
import sys
import tensorflow as tf
from keras_munet.train.devices import cpu_threads
if "begun" in sys.argv:
    tf.constant(1)
cpu_threads._num_cores = lambda: 8
print(cpu_threads.divide_cores(sys.argv[1], int(sys.argv[2])))
print(tf.config.threading.get_intra_op_parallelism_threads())
print(cpu_threads.num_operations())
"""


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch):
    monkeypatch.delenv(cpu_threads.VARIABLE, raising=False)


def _share(*args, **env):
    done = forked.run_code(_PROGRAM, *args, CUDA_VISIBLE_DEVICES="", **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("num_children", "num_cores"), [(8, 1), (3, 2), (1, 8)]
)
def test_an_operation_gets_its_share_of_the_cores(num_children, num_cores):
    found = _share("one_device", str(num_children))
    assert found == [str(n) for n in (num_cores, num_cores, 8 // num_cores)]


def test_what_a_user_chose_and_other_strategies_are_left_alone():
    chosen = _share("auto", "8", TF_NUM_INTRAOP_THREADS="3")
    assert chosen == ["None", "0", "2"]
    one = _share(
        "auto", "8", TF_NUM_INTRAOP_THREADS="2", TF_NUM_INTEROP_THREADS="3"
    )
    assert one == ["None", "0", "3"]
    assert _share("mirrored", "8") == ["None", "0", "8"]


def test_a_tensorflow_that_has_begun_is_left_alone():
    assert _share("auto", "8", "begun") == ["None", "0", "8"]
