"""Follows a job: lines, bars, JSON, TensorBoard, and callbacks of your own."""

from keras_munet.callbacks.callback import Callback
from keras_munet.callbacks.callback import Run
from keras_munet.callbacks.callback import TaskStart

__all__ = ["Callback", "Run", "TaskStart"]
