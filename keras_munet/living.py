"""The living paths of a system directory, as the search sees them."""

from __future__ import annotations

from keras_munet.search import population
from keras_munet.store import system_dir
from keras_munet.store import task_state


def read(directory: system_dir.SystemDir) -> population.Population:
    """Returns the published paths, who is private, and who is retired.

    Raises:
      StoreError: a record is damaged or cannot be read.
    """
    states = directory.tasks()
    removed = directory.removed()
    records: list[task_state.TaskState | task_state.RemovedTask] = [
        *removed.values(),
        *states.values(),
    ]
    retired: dict[str, str | None] = {}
    for record in records:
        retired.update(record.retired)
    return population.Population(
        root=directory.root,
        published={name: s.published for name, s in states.items()},
        private=frozenset(n for n, s in states.items() if s.private),
        retired=retired,
        num_iterations_done=sum(r.num_iterations_done for r in records),
    )
