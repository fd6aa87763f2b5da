"""Average precision of boxes and masks, and panoptic quality.

Invariant: predictions of a whole data set are ranked together; in panoptic
quality, what overlaps void mostly is neither right nor wrong.

pycocotools computes average precision, over objects of all sizes. Panoptic
quality: Kirillov et al. 2019, arXiv 1801.00868, equation 1.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from typing import Any

import numpy as np

from keras_munet.core import plugins
from keras_munet.overparam.experiments import detection
from keras_munet.overparam.experiments import metrics
from keras_munet.overparam.experiments import tasks as tasks_lib

# Segments that overlap more than this match; no two can.
_MATCH = 0.5


class Detection(metrics.Meter):
    """Boxes alone, or masks and panoptic segments too with a segmentation."""

    def __init__(self, task: tasks_lib.Task):
        super().__init__(task)
        self._boxes = AveragePrecision("bbox")
        self._masks = AveragePrecision("segm")
        self._panoptic = PanopticQuality()
        self._num = 0
        self._has_classes = False

    def update(
        self,
        labels: np.ndarray,
        outputs: np.ndarray,
        classes: np.ndarray | None = None,
    ) -> None:
        """Counts a batch.

        Args:
          labels: `[batch, height, width, 2]` (`detection`).
          outputs: `[batch, height, width, num_outputs]`.
          classes: `[batch, height, width]` as a segmentation sees them; None
            where there is none.
        """
        for i, (label, output) in enumerate(zip(labels, outputs, strict=True)):
            true = detection.labelled(label)
            detected = detection.objects(self._task, output)
            self._num += len(true.classes)
            self._boxes.add(true, detected)
            if classes is None:
                continue
            self._has_classes = True
            numbers = detection.instances(
                self._task, output, classes[i], detected
            )
            self._masks.add(true, detected, label[..., 1], numbers)
            self._panoptic.add(label, np.stack([classes[i], numbers], -1))

    def _num_labelled(self):
        return self._num

    def _measured(self):
        box_ap, box_ap50 = self._boxes.result()
        measured = {"box_ap": box_ap, "box_ap50": box_ap50}
        if self._has_classes:
            measured["mask_ap"], measured["mask_ap50"] = self._masks.result()
            measured["panoptic_quality"] = self._panoptic.result()
        return measured


class AveragePrecision:
    """Collects the objects of images for COCO's evaluation.

    Args:
      iou_type: `bbox` or `segm`, as pycocotools calls boxes and masks.

    Raises:
      UsageError: pycocotools is not installed.
    """

    def __init__(self, iou_type: str):
        self._coco = plugins.import_extra(
            "pycocotools.coco", "overparam", "detection needs"
        )
        self._evaluation = plugins.import_extra(
            "pycocotools.cocoeval", "overparam", "detection needs"
        )
        self._masks = plugins.import_extra(
            "pycocotools.mask", "overparam", "detection needs"
        )
        self._iou_type = iou_type
        self._num_images = 0
        self._annotations: tuple[list[dict], list[dict]] = [], []

    def add(
        self,
        true: detection.Objects,
        detected: detection.Objects,
        true_numbers: np.ndarray | None = None,
        detected_numbers: np.ndarray | None = None,
    ) -> None:
        """Adds an image.

        Args:
          true: its objects.
          detected: those predicted.
          true_numbers: `[height, width]`, the object of each pixel; of masks.
          detected_numbers: likewise, of those predicted.
        """
        self._num_images += 1
        for objects, pixels, records in zip(
            (true, detected),
            (true_numbers, detected_numbers),
            self._annotations,
            strict=True,
        ):
            for class_id, score, box, number in zip(*objects, strict=True):
                top, left, bottom, right = map(float, box)
                annotation: dict[str, Any] = {
                    # An id of 0 stands for no match.
                    "id": len(records) + 1,
                    "image_id": self._num_images,
                    "category_id": int(class_id),
                    "score": float(score),
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": 0,
                }
                if pixels is not None:
                    mask = np.asfortranarray(pixels == number, np.uint8)
                    annotation["segmentation"] = self._masks.encode(mask)
                    annotation["area"] = float(mask.sum())
                records.append(annotation)

    def result(self) -> tuple[float, float]:
        """Returns AP over overlaps of 0.5 to 0.95, and AP at 0.5.

        Both are means over the classes that are there; 0 without any.
        """
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = self._evaluation.COCOeval(
                *map(self._indexed, self._annotations), self._iou_type
            )
            evaluation.params.areaRng = evaluation.params.areaRng[:1]
            evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
            evaluation.params.maxDets = [detection.NUM_OBJECTS_MAX]
            evaluation.evaluate()
            evaluation.accumulate()
        # [overlaps, recalls, classes, 1, 1]; -1 of classes without objects.
        precision = evaluation.eval["precision"]
        return _mean_known(precision), _mean_known(precision[0])

    def _indexed(self, annotations: list[dict]) -> Any:
        class_ids = {
            annotation["category_id"]
            for annotation in itertools.chain(*self._annotations)
        }
        coco = self._coco.COCO()
        coco.dataset = {
            # Sizes are read and not used: masks bring their own.
            "images": [
                {"id": number, "height": 0, "width": 0}
                for number in range(1, self._num_images + 1)
            ],
            "categories": [{"id": i} for i in sorted(class_ids)],
            "annotations": annotations,
        }
        coco.createIndex()
        return coco


class PanopticQuality:
    """Collects segments of images: overlaps of matches, misses, inventions."""

    def __init__(self):
        # class -> sum of overlaps, matches, segments of both sides.
        self._counts: dict[int, np.ndarray] = {}

    def add(self, label: np.ndarray, prediction: np.ndarray) -> None:
        """Adds an image: both `[height, width, 2]`, class and number.

        All pixels of a class without a number are one segment.
        """
        void = label[..., 0] == tasks_lib.VOID
        true, detected = _segments(label), _segments(prediction)
        true.pop((tasks_lib.VOID, 0), None)
        matched = set()
        for key, mask in detected.items():
            # Mostly on void: not counted at all, unless it matches.
            overlaps = {
                other: _overlap(mask & ~void, true[other])
                for other in true
                if other[0] == key[0]
            }
            best = max(overlaps, key=lambda k: overlaps[k], default=None)
            if best is not None and overlaps[best] > _MATCH:
                matched.add(best)
                self._count(key[0], overlaps[best], 1, 0)
            elif (mask & void).sum() <= _MATCH * mask.sum():
                self._count(key[0], 0, 0, 1)
        for key in true:
            if key not in matched:
                self._count(key[0], 0, 0, 1)

    def result(self) -> float:
        """Returns the mean over classes that are there; 0 if none is."""
        each = [
            overlap / (num + 0.5 * num_alone)
            for overlap, num, num_alone in self._counts.values()
        ]
        return float(np.mean(each)) if each else 0.0

    def _count(self, class_id, *values):
        self._counts.setdefault(int(class_id), np.zeros(3))
        self._counts[int(class_id)] += values


def _mean_known(precision: np.ndarray) -> float:
    """Returns the mean of what is not -1; 0 if nothing is left."""
    values = precision[precision > -1]
    return float(values.mean()) if values.size else 0.0


def _segments(image: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    pairs = np.unique(image.reshape(-1, 2), axis=0)
    return {
        (int(class_id), int(number)): (image == (class_id, number)).all(-1)
        for class_id, number in pairs
    }


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0
