"""Lists the plug-ins that are installed, and whether they can be used.

    python launch/plugins.py [--load]

One line each: group, name, where it is and what brought it. Nothing is
imported without --load. A name that is taken twice, or a plug-in that cannot
be imported, is reported, and the exit code is 2.
"""

from __future__ import annotations

import sys

import launching
from absl import flags

from keras_munet import errors
from keras_munet.callbacks import callback
from keras_munet.core import adapters
from keras_munet.core import plugins
from keras_munet.core import qualities
from keras_munet.core import registry
from keras_munet.data import tasks
from keras_munet.export import options
from keras_munet.roots import build
from keras_munet.search import plugins as search_plugins

_LOAD = flags.DEFINE_bool("load", False, "Import every plug-in as well.")


def main() -> None:
    """Prints the table; raises if something in it cannot be used."""
    if _LOAD.value:
        launching.quiet_tensorflow()
        # Its layers are built in only once they are there.
        from keras_munet.models import layer_factory  # noqa: F401
    problems = []
    for group in _registries():
        for plugin in plugins.installed_plugins(group.group):
            print(
                f"{plugin.group:<28} {plugin.name:<20} {plugin.target:<40} "
                f"{plugin.distribution}"
            )
        try:
            usable = group.plugins()
            if _LOAD.value:
                for name in usable:
                    group.get(name)
        except errors.UsageError as error:
            problems.append(str(error))
    for problem in problems:
        print(f"unusable: {problem}", file=sys.stderr)
    if problems:
        raise errors.UsageError(
            f"{len(problems)} groups of plug-ins cannot be used; see above"
        )


def _registries() -> list[registry.Registry]:
    return [
        search_plugins.MUTATIONS,
        search_plugins.PARENT_POLICIES,
        search_plugins.SCORERS,
        qualities.QUALITIES,
        build.SOURCES,
        tasks.SOURCES,
        adapters.ADAPTERS,
        registry.LAYERS,
        callback.CALLBACKS,
        options.FORMATS,
    ]


if __name__ == "__main__":
    launching.run(main)
