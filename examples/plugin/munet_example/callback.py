"""Announces each published task on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from keras_munet import plugins


class Announce(plugins.Callback):
    """Prints a line for each task that a job publishes."""

    def on_task_end(self, event: Mapping[str, Any]) -> None:
        """Prints the task and its test accuracy."""
        accuracy = event["path"]["metrics"]["test_quality"]
        print(f"{event['task']}: {accuracy:.4f} on test data", file=sys.stderr)
