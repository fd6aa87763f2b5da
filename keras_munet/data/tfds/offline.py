"""Prepares a data set of TFDS from files on disk, never from the network.

Invariant: a preparation either ends with the whole data set in its place or
leaves nothing behind. It happens in a folder beside the final one, which is
renamed at the end.
"""

from __future__ import annotations

import contextlib
import io
import os
import urllib.parse
from collections.abc import Iterator

import promise
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from keras_munet import errors
from keras_munet.core import plain_paths
from keras_munet.data import folders


@contextlib.contextmanager
def quiet(progress: bool = False) -> Iterator[None]:
    """Keeps TFDS's notes and warnings off the terminal.

    Args:
      progress: whether its progress bars are shown.
    """
    if progress:
        tfds.enable_progress_bar()
    else:
        tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


class _ManualFiles(tfds.download.DownloadManager):
    """Answers every request for a file from one folder, or refuses it."""

    def __init__(self, builder: tfds.core.DatasetBuilder, scratch, folder):
        super().__init__(
            download_dir=scratch,
            manual_dir=folder,
            manual_dir_instructions=(
                builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "see the data set"
            ),
            url_infos=builder.url_infos,
            dataset_name=builder.name,
        )
        self._folder = folder

    # TFDS's own methods `download` and `download_and_extract` ask this one
    # for each file.
    def _download_or_get_cache(self, resource):
        url = resource if isinstance(resource, str) else resource.url
        expected = self._url_infos.get(url)
        name = expected and expected.filename
        if not name:
            name = os.path.basename(urllib.parse.urlparse(url).path)
        path = self._folder / name
        if not path.is_file():
            raise errors.DataError(
                f"file {name!r} is missing from {self._folder}; it is "
                f"{url}, put it there under that name"
            )
        info = tfds.core.download.checksums.compute_url_info(path)
        if expected and info != expected:
            raise errors.DataError(
                f"file {path} has SHA-256 {info.checksum} ({int(info.size)} "
                f"bytes), expected {expected.checksum} "
                f"({int(expected.size)} bytes); get it again from {url}"
            )
        self._recorded_url_infos[url] = info
        return promise.Promise.resolve(path)

    def download_kaggle_data(self, competition_or_dataset: str):
        raise errors.DataError(
            f"data {competition_or_dataset!r} come from Kaggle and cannot be "
            "read from files; prepare them with TFDS and name the result in "
            "data.data_dir"
        )


def manual_folder(
    builder: tfds.core.DatasetBuilder, manual_dir: str
) -> epath.Path:
    """Returns where the source files of a data set lie in `manual_dir`."""
    expanded = os.path.expanduser(manual_dir)
    return epath.Path(plain_paths.without_patterns(expanded)) / layout(builder)


def layout(builder: tfds.core.DatasetBuilder) -> str:
    """Returns a builder's data set as `DATASET[/CONFIG]`."""
    config = builder.builder_config
    return f"{builder.name}/{config.name}" if config else builder.name


def prepare_data_set(
    builder: tfds.core.DatasetBuilder, manual_dir: str, download: bool
) -> None:
    """Writes the prepared data set to the builder's own folder.

    Args:
      builder: not prepared.
      manual_dir: source files as `<dataset>[/<config>]/<file>`; may be empty
        if `download` is set.
      download: whether files that are not in `manual_dir` may be fetched.

    Raises:
      DataError: a file is missing or damaged, or the data set cannot be
        prepared or written.
    """
    folder = manual_folder(builder, manual_dir) if manual_dir else None
    if folder is not None and not download and not folder.is_dir():
        raise errors.DataError(
            f"folder {folder} is missing; put the source files of "
            f"{layout(builder)} there"
        )
    root = epath.Path(builder.data_dir_root)
    scratch = folders.unfinished(root)
    existed = root.exists()
    try:
        scratch.mkdir(parents=True)
        _prepare_in(builder, scratch, folder, download)
    except errors.DataError as e:
        # TFDS's frames say nothing that the message does not.
        raise errors.DataError(str(e)) from None
    except Exception as e:
        raise errors.DataError(
            f"cannot prepare {layout(builder)} in {root}: {_one_line(e)}; "
            "prepare it with TFDS and name its folder in data.data_dir"
        ) from e
    finally:
        if scratch.exists():
            scratch.rmtree()
        if not existed and root.exists() and not any(root.iterdir()):
            root.rmdir()


def _prepare_in(builder, scratch: epath.Path, folder, download: bool) -> None:
    copy = type(builder)(
        data_dir=scratch,
        config=builder.builder_config and builder.builder_config.name,
        version=str(builder.version),
    )
    downloads = scratch / "downloads"
    if download:
        # Kept, so that an interrupted download goes on with the next file.
        downloads = epath.Path(builder.data_dir_root) / "downloads"
    else:
        if not hasattr(copy, "_make_download_manager"):
            raise RuntimeError("this version of TFDS makes its own downloads")
        copy._make_download_manager = lambda **_: _ManualFiles(
            copy, downloads, folder
        )
    copy.download_and_prepare(
        download_dir=downloads,
        download_config=tfds.download.DownloadConfig(
            manual_dir=folder, try_download_gcs=False
        ),
    )
    final = epath.Path(builder.data_path)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        epath.Path(copy.data_path).rename(final)
    except OSError:
        # Another process may have prepared the same data meanwhile.
        if not builder.is_prepared():
            raise


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
