"""The living paths of a system directory, as the search sees them."""

from __future__ import annotations

from keras_munet.core import specs
from keras_munet.search import population as population_lib
from keras_munet.store import reader
from keras_munet.store import system_dir
from keras_munet.store import task_record_cache
from keras_munet.store import task_state


class Newest:
    """Tells a task iteration what other jobs have published since.

    A call costs what was published since the one before, however many tasks
    there are.

    Attributes:
      population: the living paths at the last call. Populations of earlier
        calls share its parts and must not be used any more.
    """

    def __init__(self, directory: system_dir.SystemDir):
        self._directory = directory
        self._num_changes = directory.num_changes()
        self._view = _View(directory)
        self.population = self._view.population()

    def __call__(self) -> population_lib.Population | None:
        """Returns the living paths if they have changed, else None.

        Raises:
          StoreError: a record is damaged or cannot be read.
        """
        num_changes = self._directory.num_changes()
        if num_changes == self._num_changes:
            return None
        changes = self._directory.records.changes(self._num_changes)
        if changes is None:
            self._view = _View(self._directory)
        else:
            for change in changes:
                self._view.take(change)
        self._num_changes = num_changes
        self.population = self._view.population()
        return self.population


def read_population(
    directory: reader.SystemReader,
) -> population_lib.Population:
    """Returns the published paths, who is private, and who is retired.

    Raises:
      StoreError: a record is damaged or cannot be read.
    """
    return _View(directory, shares_users=False).population()


class _View:
    """The parts of a population, which follow changes of records."""

    def __init__(
        self, directory: reader.SystemReader, *, shares_users: bool = True
    ):
        """Takes all records in.

        Args:
          directory: of the system.
          shares_users: whether the users of components are those that follow
            the directory, and change with it.
        """
        self._root = directory.root
        self._published: dict[str, specs.PathRecord] = {}
        self._living = {self._root.id: self._root}
        self._private: set[str] = set()
        self._retired: dict[str, str | None] = {}
        self._num_iterations_done = 0
        records = directory.records.read()
        users = directory.records.users
        self._users = users if shares_users else users.copy()
        # Of a path that was retired twice, the living task's word counts.
        for record in sorted(
            records, key=lambda r: isinstance(r, task_state.TaskState)
        ):
            self.take(task_record_cache.Change(None, record))

    def take(self, change: task_record_cache.Change) -> None:
        """Takes a change of one record in."""
        before, after = change.before, change.after
        if before is not None:
            self._num_iterations_done -= before.num_iterations_done
        if isinstance(before, task_state.TaskState):
            del self._living[before.published.id]
            self._private.discard(before.task)
            if not isinstance(after, task_state.TaskState):
                del self._published[before.task]
        if after is not None:
            self._retired.update(after.retired)
            self._num_iterations_done += after.num_iterations_done
        if isinstance(after, task_state.TaskState):
            self._published[after.task] = after.published
            self._living[after.published.id] = after.published
            if after.private:
                self._private.add(after.task)

    def population(self) -> population_lib.Population:
        """Returns the parts as they are, without a copy."""
        return population_lib.Population(
            root=self._root,
            published=self._published,
            private=self._private,
            retired=self._retired,
            num_iterations_done=self._num_iterations_done,
            users=self._users,
            paths=self._living,
        )
