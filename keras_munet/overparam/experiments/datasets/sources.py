"""Opens the data set that an experiment names.

Invariant: no name opens other data when its own are missing.
"""

from __future__ import annotations

from keras_munet import errors
from keras_munet.overparam.experiments import settings as settings_lib
from keras_munet.overparam.experiments import tasks as tasks_lib
from keras_munet.overparam.experiments.datasets import camvid
from keras_munet.overparam.experiments.datasets import coco
from keras_munet.overparam.experiments.datasets import dense_data
from keras_munet.overparam.experiments.datasets import nyuv2
from keras_munet.overparam.experiments.datasets import overlaid


def load_source(settings: settings_lib.Settings) -> dense_data.DataSet:
    """Returns the data of an experiment with its tasks alone.

    Raises:
      UsageError: a task is unknown, or no folder is given.
      DataError: the files are missing or damaged.
    """
    size = (settings.image_height, settings.image_width)
    if settings.data == "overlaid":
        data = overlaid.load_overlaid(
            settings.overlaid,
            size,
            data_dir=settings.data_dir,
            seed=settings.data_seed,
        )
    elif not settings.data_dir:
        raise errors.UsageError(
            f"{settings.data} lies in files; give --config.data_dir=FOLDER "
            "(docs/overparam_data.md says which)"
        )
    elif settings.data == "coco":
        data = coco.load_coco(
            settings.data_dir,
            size,
            num_train=settings.num_train,
            num_test=settings.num_test,
        )
    else:
        data = _LOADERS[settings.data](settings.data_dir, size)
    names = settings.task_names or tuple(t.name for t in data.tasks)
    return dense_data.DataSet(
        data.name,
        tasks_lib.named(data.tasks, names),
        dense_data.rows(data.train, 0, settings.num_train or len(data.train)),
        data.validation,
        dense_data.rows(data.test, 0, settings.num_test or len(data.test)),
    )


_LOADERS = {"camvid": camvid.load_camvid, "nyuv2": nyuv2.load_nyuv2}
