"""The living paths of a system directory, as the search sees them."""

from __future__ import annotations

from keras_munet.search import population
from keras_munet.store import reader
from keras_munet.store import system_dir
from keras_munet.store import task_state


class Newest:
    """Tells a task iteration what other jobs have published since.

    Attributes:
      population: the living paths at the last call.
    """

    def __init__(self, directory: system_dir.SystemDir):
        self._directory = directory
        self._num_changes = directory.num_changes()
        self.population = read_population(directory)

    def __call__(self) -> population.Population | None:
        """Returns the living paths if they have changed, else None.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        num_changes = self._directory.num_changes()
        if num_changes == self._num_changes:
            return None
        self._num_changes = num_changes
        self.population = read_population(self._directory)
        return self.population


def read_population(directory: reader.SystemReader) -> population.Population:
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
