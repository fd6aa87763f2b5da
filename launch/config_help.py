"""Lists the config keys, each with its default and one line about it.

The lines are those of the settings' own docstrings.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from keras_munet.core import settings as settings_lib

_NUM_CHARS_MAX = 120
# Of the hyperparameters, which are keys of one attribute.
_HPARAMS = {
    "mu": "mutation probability of mu2net.",
    "adapter_dim": "inner width of a new adapter.",
    "opt_name": "`sgd`, as published, or `adamw`.",
    "opt_lr": "learning rate.",
    "opt_lr_schedule": "`constant`, `cosine` or `restarts`.",
    "opt_lr_warmup_ratio": "share of all steps in which the rate rises.",
    "opt_momentum": "momentum; AdamW reads it too.",
    "opt_nesterov": "whether SGD uses Nesterov's momentum.",
    "opt_weight_decay": "of AdamW, decoupled from the gradient.",
    "opt_label_smoothing": "share of each label that all classes have alike.",
    "ds_crop": "whether training images are cropped at random.",
    "ds_flip_left_right": "whether half of them are mirrored.",
    "ds_area_range_min": "least area of a crop, share of the image.",
    "ds_aspect_ratio_range_min": "most oblong crop, width by height.",
    "ds_shift": "largest random shift, share of the sides.",
    "ds_zoom": "largest random zoom about the middle.",
    "ds_mixup": "largest share of another training image mixed into one.",
    "ds_brightness_delta": "largest random change of brightness.",
    "ds_contrast_delta": "largest random change of contrast.",
    "ds_saturation_delta": "largest random change of saturation.",
    "ds_hue_delta": "largest random change of hue.",
}


def text() -> str:
    """Returns a line per key: its name, its default, what it means."""
    lines = [
        "config keys, as --config.KEY=VALUE, with the defaults that a config "
        "file changes:",
        "",
    ]
    for key, default, meaning in _keys(settings_lib.Settings(), ""):
        clause = re.split(r"; |\. (?=[A-Z])|\.$", meaning)[0]
        line = f"  {key}={default!r}: {clause}"
        if len(line) > _NUM_CHARS_MAX:
            line = line[: _NUM_CHARS_MAX - 4].rsplit(" ", 1)[0] + " ..."
        lines.append(line)
    return "\n".join([*lines, "", "docs/settings.md says more of each."])


def _keys(record: Any, prefix: str) -> Iterator[tuple[str, Any, str]]:
    meanings = attributes(type(record))
    for field in dataclasses.fields(record):
        key, value = prefix + field.name, getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from _keys(value, f"{key}.")
        elif field.name == "hparams":
            for name, default in value.items():
                yield f"{key}.{name}", default, _HPARAMS[name]
        else:
            plain = dict(value) if isinstance(value, Mapping) else value
            yield key, plain, meanings.get(field.name, "")


def attributes(settings_type: type) -> dict[str, str]:
    """Returns what the docstring of a class says of each attribute.

    Args:
      settings_type: the class, with a section `Attributes:` in Google's style.
    """
    section = (settings_type.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(
        r"^      (\w+): (.*(?:\n {8,}.*)*)", section, re.MULTILINE
    )
    return {name: " ".join(meaning.split()) for name, meaning in entries}
