"""Shares a system through the Hugging Face Hub.

Invariant: a repository gets an archive and a card in one commit, and nothing
of a downloaded archive is written to the system's folder before all of it was
verified; nothing of it is executed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from keras_munet import errors
from keras_munet.core import names
from keras_munet.core import plugins
from keras_munet.export import model_card
from keras_munet.roots import build as roots_build
from keras_munet.store import archives
from keras_munet.store import creation
from keras_munet.store import files as files_lib
from keras_munet.store import system_dir
from keras_munet.system import population_view

SCHEME = "hf://"
ARCHIVE_FILE = "system.tar"
CARD_FILE = "README.md"
# The Hub's own name for a licence that is none of its list.
OTHER_LICENSE = "other"
_MODULE = "huggingface_hub"
_EXTRA = "hf"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_URL = re.compile(rf"hf://({_NAME}/{_NAME})(?:@([A-Za-z0-9][\w./-]{{0,99}}))?")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


class Repository(NamedTuple):
    """A model repository of the Hub, from `hf://OWNER/NAME[@REVISION]`.

    Attributes:
      name: `OWNER/NAME`.
      revision: a branch, tag or commit; None for the newest.
    """

    name: str
    revision: str | None

    @property
    def url(self) -> str:
        """The repository as people write it, without its revision."""
        return f"{SCHEME}{self.name}"


def parse_url(url: str) -> Repository:
    """Returns the repository that a URL names.

    Raises:
      UsageError: it names none.
    """
    match = _URL.fullmatch(url)
    if match is None or ".." in url or "--" in url:
        raise errors.UsageError(
            f"{url!a} names no repository; give hf://OWNER/NAME, with "
            "@REVISION behind it for a branch, tag or commit"
        )
    return Repository(match[1], match[2])


def push(
    directory: system_dir.SystemDir,
    url: str,
    *,
    license_id: str = OTHER_LICENSE,
    private: bool = False,
    include_private: bool = False,
) -> str:
    """Uploads what is published of a system; `pull` gets it back.

    The repository is created if it is absent. The token is the one of `hf
    auth login` or of the variable `HF_TOKEN`.

    Args:
      directory: of the system.
      url: `hf://OWNER/NAME`, with `@BRANCH` behind it for a branch.
      license_id: the licence of the system, as the Hub spells it, e.g.
        `apache-2.0`.
      private: whether the repository has to be a private one.
      include_private: whether tasks that are private in the system, which
        teach no other task, are uploaded with the rest.

    Returns:
      The URL of the commit.

    Raises:
      UsageError: the URL or the licence is none, no task is published,
        a task is private, a repository that has to be private is public, or
        huggingface_hub is not installed.
      StoreError: the system is damaged, or the Hub refuses or does not answer.

    Example:
        push(system_dir.SystemDir.open("runs/mine"), "hf://me/alphabets")
    """
    repository = parse_url(url)
    if _LICENSE.fullmatch(license_id) is None:
        raise errors.UsageError(
            f"{license_id!a} is no licence identifier; give one as "
            f"apache-2.0 or cc-by-4.0, or {OTHER_LICENSE}"
        )
    hub = _library("push")
    tasks = directory.tasks()
    if not tasks:
        raise errors.UsageError(
            f"{directory.files.where} has no published task; evolve one "
            "before you push it"
        )
    if not include_private:
        _refuse_private(directory)
    card = _card(directory, repository, license_id)
    with tempfile.TemporaryDirectory() as folder:
        archive = os.path.join(folder, ARCHIVE_FILE)
        archives.export_archive(directory, archive)
        if not include_private:
            # A job may have published one since the first look.
            _refuse_private(directory)
        with _as_store_errors(repository, "pushed"):
            api = _api(hub)
            api.create_repo(repository.name, private=private, exist_ok=True)
            # The call leaves a repository that exists as it is.
            if private and not api.model_info(repository.name).private:
                raise errors.UsageError(
                    f"{repository.url} exists already and is public; make it "
                    "private on the Hub, or choose another name"
                )
            commit = api.create_commit(
                repository.name,
                [
                    hub.CommitOperationAdd(CARD_FILE, card.encode()),
                    hub.CommitOperationAdd(ARCHIVE_FILE, archive),
                ],
                commit_message=f"A system of {len(tasks)} tasks",
                revision=repository.revision,
            )
    return str(commit.commit_url)


def pull(url: str, workdir: files_lib.Location) -> system_dir.SystemDir:
    """Downloads a system that `push` uploaded, into a new folder.

    Args:
      url: `hf://OWNER/NAME`, with `@REVISION` behind it for a branch, tag or
        commit. The repository need not be trusted.
      workdir: an empty or absent folder, or files.

    Raises:
      UsageError: the URL is none, the folder holds something already, or
        huggingface_hub is not installed.
      StoreError: the Hub refuses or does not answer, the repository holds no
        system, or the archive is damaged; then nothing was written.

    Example:
        pull("hf://me/alphabets", "runs/theirs")
    """
    repository = parse_url(url)
    hub = _library("pull")
    files = files_lib.open_storage(workdir)
    # Before a download that may take minutes; what an interrupted import
    # left, the import itself allows.
    if system_dir.SystemDir.is_system(files):
        creation.check_free(files)
    with tempfile.TemporaryDirectory() as folder:
        with _as_store_errors(repository, "pulled"):
            archive = _api(hub).hf_hub_download(
                repository.name,
                ARCHIVE_FILE,
                revision=repository.revision,
                local_dir=folder,
            )
        return archives.import_archive(archive, files)


def _refuse_private(directory: system_dir.SystemDir) -> None:
    """Refuses a system with private tasks.

    The history of all jobs, which is a part of an archive, has the name and
    the figures of a private task before it is published and after it is
    removed, too.

    Raises:
      UsageError: a task is private, or the experiment names one that is.
    """
    hidden = {
        name for name, state in directory.tasks().items() if state.private
    }
    for task in directory.experiment.get("task_names", ()):
        name, private = names.split_private(task)
        if private:
            hidden.add(name)
    if hidden:
        raise errors.UsageError(
            f"{', '.join(sorted(hidden))} of {directory.files.where} are "
            "private tasks, and the history has their names and figures; give "
            "--include_private to upload them too"
        )


def _card(
    directory: system_dir.SystemDir, repository: Repository, license_id: str
) -> str:
    tasks = directory.tasks()
    population = population_view.read_population(directory)
    return model_card.system_card_text(
        tasks,
        population.lineages({n: s.published for n, s in tasks.items()}),
        roots_build.described(directory.root_source),
        name=repository.name.partition("/")[2],
        url=repository.url,
        license_id=license_id,
    )


def _library(command: str) -> Any:
    hub = plugins.import_extra(_MODULE, _EXTRA, f"{command} needs")
    if not sys.stderr.isatty():
        # Bars are for a person who looks on, not for a log.
        importlib.import_module(f"{_MODULE}.utils").disable_progress_bars()
    return hub


def _api(hub: Any) -> Any:
    # The variable is read now: the library reads it when it is imported.
    return hub.HfApi(
        endpoint=os.environ.get("HF_ENDPOINT") or None,
        library_name="keras_munet",
    )


@contextlib.contextmanager
def _as_store_errors(repository: Repository, verb: str) -> Iterator[None]:
    """Turns every failure of the library into a StoreError of one line.

    Its versions raise errors of requests, httpx or httpx2, ValueErrors and
    OSErrors, which have no common class below Exception.
    """
    try:
        yield
    except errors.MunetError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise errors.StoreError(
            f"{repository.url} cannot be {verb}: {reason}; check the name, "
            "your access (`hf auth login` or HF_TOKEN) and the network"
        ) from error
