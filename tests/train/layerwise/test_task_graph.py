"""Promises are kept in their order, after what they need."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from keras_munet.train.layerwise import task_graph


def test_a_function_is_given_what_those_that_it_needs_returned():
    with task_graph.TaskGraph(2) as flow:
        two = flow.add(lambda: 2, (0,))
        three = flow.add(lambda: 3, (0,))
        six = flow.add(lambda a, b: a * b, (0,), [two, three])
        late = flow.add(lambda a: a + 1, (0,), [six])
        assert late.result() == 7


def test_what_is_ready_is_done_in_order():
    done = []
    may_begin = threading.Event()
    with task_graph.TaskGraph(1) as flow:
        flow.add(may_begin.wait, (0,))
        for number in (3, 1, 2):
            flow.add(lambda n=number: done.append(n), (1, number))
        last = flow.add(lambda: None, (2,))
        may_begin.set()
        last.result()
    assert done == [1, 2, 3]


def test_threads_work_side_by_side():
    both = threading.Barrier(2, timeout=60)
    with task_graph.TaskGraph(2) as flow:
        for promise in [flow.add(both.wait, (0,)) for _ in range(2)]:
            promise.result()


def test_an_error_reaches_whoever_asks_and_nothing_is_done_upon_it():
    done = []
    with task_graph.TaskGraph(2) as flow:
        failing = flow.add(lambda: 1 // 0, (0,))
        upon = flow.add(lambda _: done.append("upon"), (0,), [failing])
        apart = flow.add(lambda: done.append("apart"), (0,))
        for promise in (failing, upon):
            with pytest.raises(ZeroDivisionError):
                promise.result()
        apart.result()
    assert done == ["apart"]


def test_leaving_ends_the_threads_and_drops_what_has_not_begun():
    done = []
    begun, may_end = threading.Event(), threading.Event()

    def work():
        begun.set()
        may_end.wait()
        done.append("begun")

    with pytest.raises(KeyError), task_graph.TaskGraph(1) as flow:
        flow.add(work, (0,))
        never = flow.add(lambda: done.append("never"), (1,))
        begun.wait()
        threading.Timer(0.05, may_end.set).start()
        raise KeyError
    assert done == ["begun"]
    assert not [t for t in flow._threads if t.is_alive()]
    with pytest.raises(RuntimeError, match="dropped"):
        never.result()
    with pytest.raises(RuntimeError, match="ended"):
        flow.add(work, (0,))


def test_what_was_needed_is_freed_when_it_was_used():
    class Value:
        pass

    kept = []
    with task_graph.TaskGraph(2) as flow:
        first = flow.add(Value, (0,))
        second = flow.add(lambda value: kept.append(value), (1,), [first])
        second.result()
        found = weakref.ref(kept.pop())
        # Without the collector of cycles, whenever that would run.
        gc.disable()
        try:
            del first
            # A thread that waits holds nothing either.
            until = time.monotonic() + 60
            while found() is not None and time.monotonic() < until:
                time.sleep(0.01)
            assert found() is None
        finally:
            gc.enable()
