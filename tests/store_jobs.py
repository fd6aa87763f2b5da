"""Stands for the helper of this name, for programs beside the project.

They add `tests/` to the path, as it was laid out before `tests/helpers/`.
"""

import importlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "helpers"))
del sys.modules[__name__]
sys.modules[__name__] = importlib.import_module(__name__)
