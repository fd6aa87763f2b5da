"""Chooses the bucket of a child: one that has a program where it can."""

from __future__ import annotations

from collections.abc import Sequence

from keras_munet.models import layer_factory
from keras_munet.models import path_model
from keras_munet.train import child_job
from keras_munet.train.program import bucket as bucket_lib


class Buckets:
    """The buckets of a job, by the largest path that its children may have."""

    def __init__(self, largest: Sequence[child_job.JobComponent] = ()):
        """Takes the largest path.

        Args:
          largest: its layers, with every adapter; none where it is unknown.
        """
        self._largest = tuple(largest)

    def of_child(
        self, child: child_job.ChildJob, image_size: int
    ) -> bucket_lib.Bucket:
        """Returns the least bucket of a child and of all that may be one.

        Args:
          child: to train or to measure.
          image_size: side of its input, pixels.

        Raises:
          UsageError: layers of the child do not fit together.
        """
        path_model.check_layers(
            [layer_factory.unbuilt_layer(p.spec) for p in child.components],
            image_size,
        )
        own = bucket_lib.bucket_of(child.components, image_size)
        if not self._largest:
            return own
        names = {part.spec.name: part for part in child.components}
        largest = [
            part
            if bucket_lib.may_grow(part.spec)
            else names.get(part.spec.name, part)
            for part in self._largest
        ]
        # Without a stack the depth of the path is part of the bucket.
        cut = bucket_lib.cut_to(largest, child.components)
        for parts in (largest, cut):
            whole = bucket_lib.bucket_of(parts, image_size)
            joined = whole.joined(own)
            if joined is not None:
                return joined
        return own

    @staticmethod
    def covering(
        bucket: bucket_lib.Bucket, existing: Sequence[bucket_lib.Bucket]
    ) -> bucket_lib.Bucket:
        """Returns one of `existing` that covers a bucket, or what outgrows it.

        Args:
          bucket: of some children.
          existing: those that have a program.
        """
        for other in existing:
            if other.covers(bucket):
                return other
        for other in existing:
            bucket = other.joined(bucket) or bucket
        return bucket
