"""A job that gets SIGTERM while it trains, as a process of its own.

    python stop_run.py WORKDIR CYCLE

SIGTERM comes after so many cycles of all children; -1 for never.
"""

from __future__ import annotations

import os
import pathlib
import signal
import sys

import system_samples as samples


def main(workdir: str, cycle: str) -> None:
    """Runs the launcher's job with its own handler of SIGTERM."""
    root = pathlib.Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root / "launch"))
    sys.argv = ["stop_run.py"]
    import launching

    def job() -> None:
        terminated = launching.stop_on_terminate()
        import keras_munet
        from keras_munet.callbacks import callback

        count = 0

        class Counted(callback.Callback):
            def on_cycle_end(self, num_children: int, num_cycles: int) -> None:
                nonlocal count
                count += 1
                if count == int(cycle):
                    os.kill(os.getpid(), signal.SIGTERM)

        system = keras_munet.System.create_or_open(workdir, samples.settings())
        progress = keras_munet.Progress(
            workdir, quiet=True, terminate=terminated, callbacks=[Counted()]
        )
        system.run(progress=progress)

    launching.run(job)


if __name__ == "__main__":
    main(*sys.argv[1:])
