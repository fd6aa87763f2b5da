"""A crew does tasks in their order, after what they need."""

from __future__ import annotations

import threading

import pytest

from keras_munet.train import crew as crew_lib


def test_a_task_is_given_what_the_tasks_that_it_needs_returned():
    with crew_lib.Crew(2) as crew:
        two = crew.add(lambda: 2, (0,))
        three = crew.add(lambda: 3, (0,))
        six = crew.add(lambda a, b: a * b, (0,), [two, three])
        late = crew.add(lambda a: a + 1, (0,), [six])
        assert late.result() == 7


def test_what_is_ready_is_done_in_order():
    done = []
    may_begin = threading.Event()
    with crew_lib.Crew(1) as crew:
        crew.add(may_begin.wait, (0,))
        for number in (3, 1, 2):
            crew.add(lambda n=number: done.append(n), (1, number))
        last = crew.add(lambda: None, (2,))
        may_begin.set()
        last.result()
    assert done == [1, 2, 3]


def test_threads_work_side_by_side():
    both = threading.Barrier(2, timeout=60)
    with crew_lib.Crew(2) as crew:
        for task in [crew.add(both.wait, (0,)) for _ in range(2)]:
            task.result()


def test_an_error_reaches_whoever_asks_and_nothing_is_done_upon_it():
    done = []
    with crew_lib.Crew(2) as crew:
        failing = crew.add(lambda: 1 // 0, (0,))
        upon = crew.add(lambda _: done.append("upon"), (0,), [failing])
        apart = crew.add(lambda: done.append("apart"), (0,))
        for task in (failing, upon):
            with pytest.raises(ZeroDivisionError):
                task.result()
        apart.result()
    assert done == ["apart"]


def test_leaving_ends_the_threads_and_drops_what_has_not_begun():
    done = []
    begun, may_end = threading.Event(), threading.Event()

    def work():
        begun.set()
        may_end.wait()
        done.append("begun")

    with pytest.raises(KeyError), crew_lib.Crew(1) as crew:
        crew.add(work, (0,))
        crew.add(lambda: done.append("never"), (1,))
        begun.wait()
        threading.Timer(0.05, may_end.set).start()
        raise KeyError
    assert done == ["begun"]
    assert not [t for t in crew._threads if t.is_alive()]


def test_a_task_that_is_done_holds_on_to_nothing_that_it_needed():
    with crew_lib.Crew(1) as crew:
        first = crew.add(lambda: 1, (0,))
        second = crew.add(lambda a: a, (0,), [first])
        second.result()
        assert not second.needs
        assert not first.needed_by
        assert second.function is None
