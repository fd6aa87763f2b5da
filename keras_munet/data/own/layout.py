"""Reads which classes and splits the folders of a user's images are.

Invariant: a folder tree is CLASS/IMAGE, SPLIT/CLASS/IMAGE, or is refused; a
split, a hidden folder or a folder around them never becomes a class. Names are
the same under every locale.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

from etils import epath

from keras_munet import errors
from keras_munet.core import printable
from keras_munet.data import folders as folders_lib

SPLIT_NAMES: dict[str, str] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# What stands for a split in names that are not read as one.
_SPLIT_WORDS = {
    **SPLIT_NAMES,
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "holdout": "test",
}
# Parts of a folder's name that say nothing about its content.
_PLAIN_WORDS = ("set", "data", "dataset", "split", "image", "images", "img")
_PART = re.compile(r"[^\W\d_]+")
_SUFFIX_WORDS = re.compile(
    rf"({'|'.join(_SPLIT_WORDS)})(?:{'|'.join(_PLAIN_WORDS)})"
)
# Folders and files that systems and programs leave beside a user's own.
_LEFT_BY_SYSTEMS = {
    "__macosx": "macOS",
    "thumbs.db": "Windows",
    "ehthumbs.db": "Windows",
    "desktop.ini": "Windows",
    "$recycle.bin": "Windows",
    "system volume information": "Windows",
    "@eadir": "a network drive",
    "lost+found": "a file system",
    "__pycache__": "Python",
}
# Of files beside images; all others are opened to see what they are.
_OTHER_SUFFIXES = tuple(
    f".{word}"
    for word in (
        *("cfg", "csv", "db", "doc", "docx", "gz", "h5", "htm", "html", "ini"),
        *("ipynb", "json", "jsonl", "log", "mat", "md", "mov", "mp4", "npy"),
        *("npz", "parquet", "pdf", "pickle", "pkl", "py", "rar", "rst", "rtf"),
        *("sh", "sqlite", "tar", "tfrecord", "tsv", "txt", "xls", "xlsx"),
        *("xml", "yaml", "yml", "zip"),
    )
)
LAYOUTS = (
    "PATH/CLASS/IMAGE (as in PATH/wren/1.jpg) or PATH/SPLIT/CLASS/IMAGE (as in "
    "PATH/train/wren/1.jpg, where SPLIT is train, val or test)"
)


class ClassFolder(NamedTuple):
    """One folder of images.

    Attributes:
      path: of the folder.
      class_name: what the folder is called, normalised.
      split: `train`, `validation` or `test`; empty where folders name none.
      files: in it and in the folders below, in the order of names.
    """

    path: epath.Path
    class_name: str
    split: str
    files: list[epath.Path]


class Layout(NamedTuple):
    """Describes how a tree of folders is read.

    Attributes:
      description: the layout in one line.
      class_folders: in the order of their names.
      skipped: (path in the tree, reason) of what is no part of it.
      notices: sentences about what is odd.
    """

    description: str
    class_folders: list[ClassFolder]
    skipped: list[tuple[str, str]]
    notices: list[str]


def read_layout(root: epath.Path) -> Layout:
    """Returns how a tree of folders is read.

    Raises:
      DataError: it is neither of the two layouts.
      OSError: a folder cannot be read.
    """
    return _Reader(root).read()


def files_below(folder: epath.Path) -> Iterator[tuple[epath.Path, str]]:
    """Yields (path, reason) of every file in a folder and the folders below.

    The order is that of names. `reason` is empty, or says why a folder could
    not be listed. Hidden files and those of operating systems are left out.

    Args:
      folder: of pictures in any layout.
    """
    try:
        folders, files = _Reader(folder).children_of(folder)
    except OSError as e:
        yield folder, f"cannot be read: {e.strerror or e}"
        return
    in_folder = set(files)
    for path in sorted((*folders, *files), key=_order):
        if path in in_folder:
            yield path, ""
        elif os.path.islink(path):
            # It may lead back to where it lies.
            yield path, "a link to a folder"
        else:
            yield from files_below(path)


def relative(path: epath.Path, root: epath.Path) -> str:
    """Returns a path in a tree as text that can be printed in one line."""
    return printable.printable(utf8(str(path.relative_to(root))))


def utf8(name: str) -> str:
    """Returns the name of a file as UTF-8 in every locale."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def label(text: str) -> str:
    """Returns a class name without spaces around it, composed, printable."""
    return printable.printable(unicodedata.normalize("NFC", text).strip())


class _Reader:
    """Reads one tree; each folder is listed once."""

    def __init__(self, root: epath.Path):
        self._root = root
        self._skipped: list[tuple[str, str]] = []
        self._notices: list[str] = []
        # Folder -> its (folders, files), without what programs put there.
        self._children: dict[
            epath.Path, tuple[list[epath.Path], list[epath.Path]]
        ] = {}

    def read(self) -> Layout:
        """Returns how the tree is read."""
        top, around = self._root, ""
        while len(folders := self._folders(top)) == 1:
            if not self._folders(folders[0], with_links=False):
                break
            if self._has_pictures(folders[0]):
                raise self._refusal(
                    f"{relative(folders[0], self._root)}/ holds both images "
                    "and folders of images"
                )
            self._skip_rest(top)
            top = folders[0]
            around = relative(top, self._root) + "/"
        self._skip_rest(top)
        splits = self._splits(folders)
        if splits:
            named = ", ".join(dict.fromkeys(splits.values()))
            text = f"SPLIT/CLASS/IMAGE with folders of {named}"
        else:
            text = "CLASS/IMAGE"
        all_folders = []
        for folder in folders:
            split = splits.get(utf8(folder.name), "")
            class_folders = self._folders(folder) if split else [folder]
            if split:
                if not class_folders and self._has_pictures(folder):
                    raise self._refusal(
                        f"{relative(folder, self._root)}/ holds images and no "
                        "folder of a class"
                    )
                self._refuse_nested(class_folders)
                self._skip_rest(folder)
            all_folders += [
                ClassFolder(
                    path, self._label(path), split, list(self._files(path))
                )
                for path in class_folders
            ]
        if not splits:
            self._refuse_nested(folders)
        self._tell_equal_names(all_folders)
        if around:
            self._notices.append(f"{around} is the only folder, and is read")
            text += f" below {around}"
        return Layout(text, all_folders, self._skipped, self._notices)

    def _folders(
        self, parent: epath.Path, with_links: bool = True
    ) -> list[epath.Path]:
        """Returns the folders of a folder that hold images, however deep."""
        folders, _ = self.children_of(parent)
        return [
            path
            for path in folders
            if self._has_pictures_below(path)
            and (with_links or not os.path.islink(path))
        ]

    def _skip_rest(self, parent: epath.Path) -> None:
        """Names what a folder of classes or splits holds besides these."""
        with_pictures = self._folders(parent)
        folders, files = self.children_of(parent)
        for path in folders:
            if path not in with_pictures:
                where = relative(path, self._root)
                num = sum(map(len, self.children_of(path)))
                reason = "no images" if num else "no files"
                self._skipped.append((where, reason))
        for path in files:
            where = relative(path, self._root)
            self._skipped.append((where, "lies in no class folder"))

    def _files(self, folder: epath.Path) -> Iterator[epath.Path]:
        """Yields the files of a folder and of the folders in it."""
        folders, files = self.children_of(folder)
        files_set = set(files)
        for path in sorted((*folders, *files), key=_order):
            if path in files_set:
                yield path
            elif os.path.islink(path):
                # It may lead back to where it lies.
                where = relative(path, self._root)
                self._skipped.append((where, "a link to a folder"))
            else:
                yield from self._files(path)

    def children_of(
        self, folder: epath.Path
    ) -> tuple[list[epath.Path], list[epath.Path]]:
        """Returns the folders and files that a user put into a folder."""
        if folder not in self._children:
            folders: list[epath.Path] = []
            files: list[epath.Path] = []
            for path, is_dir in _entries(folder):
                name = utf8(path.name)
                maker = _LEFT_BY_SYSTEMS.get(name.lower())
                if name.startswith(".") or maker:
                    where = relative(path, self._root)
                    reason = f"left by {maker}" if maker else "hidden"
                    self._skipped.append((where, reason))
                else:
                    (folders if is_dir else files).append(path)
            self._children[folder] = (
                sorted(folders, key=_order),
                sorted(files, key=_order),
            )
        return self._children[folder]

    def _splits(self, folders: Sequence[epath.Path]) -> dict[str, str]:
        """Returns the split of each folder by name; none if they are classes.

        Raises:
          DataError: some are splits and others are not.
        """
        names = [utf8(folder.name) for folder in folders]
        exact = {
            n: SPLIT_NAMES[n.lower()] for n in names if n.lower() in SPLIT_NAMES
        }
        with_classes = [
            utf8(folder.name)
            for folder in folders
            if utf8(folder.name) in exact
            and self._folders(folder)
            and not self._has_pictures(folder)
        ]
        other_names = [name for name in names if name not in exact]
        if len(folders) > 1 and exact and not other_names:
            doubled = [
                n for n in names if list(exact.values()).count(exact[n]) > 1
            ]
            if doubled:
                raise self._refusal(
                    f"the folders {_joined(doubled)} are one split"
                )
            if "train" not in exact.values():
                raise self._refusal(
                    f"of the folders {_joined(names)} none is train"
                )
            if not with_classes:
                raise self._refusal(
                    f"the folders {_joined(names)} are splits and hold no "
                    "folder of a class"
                )
            return exact
        if with_classes and other_names:
            raise self._refusal(
                f"{_joined(other_names)} stands beside the "
                f"{'splits' if len(with_classes) > 1 else 'split'} "
                f"{_joined(with_classes)} and is none"
            )
        near = [_near_split(name) for name in names]
        if len(folders) > 1 and all(near):
            rests = {part[1] for part in near if part}
            splits = {part[0] for part in near if part}
            if len(splits) > 1 and len(rests) == 1:
                raise self._refusal(
                    f"the folders {_joined(names)} look like splits and have "
                    "other names"
                )
        return {}

    def _refuse_nested(self, folders: Sequence[epath.Path]) -> None:
        """Refuses classes that hold splits or other classes."""
        inner = {
            folder: self._folders(folder, with_links=False)
            for folder in folders
        }
        flat = [folder for folder in folders if self._has_pictures(folder)]
        for folder, below in inner.items():
            splits = [p for p in below if utf8(p.name).lower() in SPLIT_NAMES]
            if splits and (len(splits) > 1 or not flat):
                raise self._refusal(
                    f"the folder {relative(folder, self._root)} holds the "
                    f"split {_joined([utf8(p.name) for p in splits])}"
                )
        if flat or not folders:
            return
        deepest = max(inner, key=lambda folder: len(inner[folder]))
        if len(inner[deepest]) > 1:
            raise self._refusal(
                f"{relative(deepest, self._root)}/ holds the folders "
                f"{_joined([utf8(p.name) for p in inner[deepest]])} and no "
                "image"
            )

    def _label(self, path: epath.Path) -> str:
        name = utf8(path.name)
        text = label(name)
        where = relative(path, self._root)
        if any("\ud800" <= c <= "\udfff" for c in name):
            self._notices.append(f"the name of {where}/ is not UTF-8")
        elif text != printable.printable(name):
            self._notices.append(
                f"the folder {where!a} is class {text!r} (composed, without "
                "spaces around it)"
            )
        return text

    def _tell_equal_names(self, class_folders: Sequence[ClassFolder]) -> None:
        paths: dict[tuple[str, str], list[str]] = {}
        for path, name, split, _ in class_folders:
            paths.setdefault((split, name), []).append(ascii(utf8(path.name)))
        self._notices += [
            f"the folders {', '.join(folders)} are one class"
            for folders in paths.values()
            if len(folders) > 1
        ]

    def _has_pictures(self, folder: epath.Path) -> bool:
        return any(map(_may_be_picture, self.children_of(folder)[1]))

    def _has_pictures_below(self, folder: epath.Path) -> bool:
        return self._has_pictures(folder) or any(
            self._has_pictures_below(path)
            for path in self.children_of(folder)[0]
            if not os.path.islink(path)
        )

    def _refusal(self, problem: str) -> errors.DataError:
        root = printable.printable(utf8(str(self._root)))
        return errors.DataError(
            f"the layout of folder:{root} is unclear: {problem}; lay "
            f"the images out as {LAYOUTS}"
        )


def _entries(folder: epath.Path) -> Iterator[tuple[epath.Path, bool]]:
    """Yields what a folder holds, and whether it is a folder."""
    if folders_lib.is_remote(os.fspath(folder)):
        for path in folder.iterdir():
            yield path, path.is_dir()
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:
                # A link that leads to itself.
                is_folder = False
            yield folder / entry.name, is_folder


def _order(path: epath.Path) -> str:
    return utf8(path.name)


def _may_be_picture(path: epath.Path) -> bool:
    return not path.name.lower().endswith(_OTHER_SUFFIXES)


def _near_split(name: str) -> tuple[str, str] | None:
    """Returns the split that a name speaks of and the rest of the name."""
    parts = _PART.findall(_SUFFIX_WORDS.sub(r"\1 ", name.lower()))
    words = [part for part in parts if part in _SPLIT_WORDS]
    if len(words) != 1:
        return None
    rest = [p for p in parts if p != words[0] and p not in _PLAIN_WORDS]
    return _SPLIT_WORDS[words[0]], " ".join(rest)


def _joined(names: Sequence[str], num: int = 5) -> str:
    text = ", ".join(printable.printable(name) for name in names[:num])
    return text + (", ..." if len(names) > num else "")
