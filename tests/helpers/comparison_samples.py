"""Hand-made comparisons whose figures can be computed in the head."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

from keras_munet.report import comparison_records

# Method -> accuracy of its tasks under its first seed; each further seed adds
# 0.02 to every task.
ACCURACY = {
    "mu2net": (0.9, 0.8, 0.7),
    "munet": (0.8, 0.8, 0.6),
    "finetune_all": (0.7, 0.75, 0.5),
}
PARAMS = {"mu2net": 1_000, "munet": 1_200, "finetune_all": 2_000}
TASKS = ("digits", "glyphs/greek", "glyphs/latin")
STEP = 0.02


def run(
    method: str, seed: int, tests: Sequence[float], num_params: int, **changes
) -> comparison_records.Run:
    """A finished run; `changes` are parts of every task's result."""
    values = {
        "num_params": 2_000,
        "accounted_params": float(num_params),
        "num_layers": 3,
        "image_multiply_adds": 5_000_000,
        "train_multiply_adds": 7_000_000_000,
        "train_secs": 12.5,
        "cpu_secs": 20.5,
        **changes,
    }
    return comparison_records.Run(
        method,
        seed,
        tuple(
            comparison_records.TaskResult(
                task=task, test=test, validation=test + 0.01, **values
            )
            for task, test in zip(TASKS, tests, strict=False)
        ),
    )


def comparison(
    methods: Mapping[str, Sequence[float]] = ACCURACY,
    num_seeds: int = 2,
    missing: Mapping[tuple[str, int], str] | None = None,
    params: Mapping[str, int] | None = None,
) -> comparison_records.Comparison:
    """Every method under seeds 0, 1, ... except for what is missing."""
    missing, params = missing or {}, params or PARAMS
    num_tasks = max(map(len, methods.values()))
    return comparison_records.Comparison(
        name="sample",
        methods=tuple(methods),
        seeds=tuple(range(num_seeds)),
        task_names=TASKS[:num_tasks],
        settings={"num_task_iters": 2, "search": {"version": "mu2net"}},
        num_train_examples=dict.fromkeys(TASKS[:num_tasks], 100),
        runs=tuple(
            run(method, seed, [a + seed * STEP for a in tests], params[method])
            for method, tests in methods.items()
            for seed in range(num_seeds)
            if (method, seed) not in missing
        ),
        missing_runs=dict(missing),
    )
