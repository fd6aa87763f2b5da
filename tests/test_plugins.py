"""The ten kinds of plug-ins, installed as other people's packages are."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import search_samples

from keras_munet import errors
from keras_munet.callbacks import callback
from keras_munet.core import plugins
from keras_munet.core import qualities
from keras_munet.core import registry
from keras_munet.core import settings as settings_lib
from keras_munet.data import task_source
from keras_munet.data import tasks
from keras_munet.export import options
from keras_munet.roots import build
from keras_munet.search import plugins as search_plugins

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_EXAMPLE = _ROOT / "examples" / "plugin"
_SEARCH = """
import json, sys
import numpy as np
import keras_munet
from keras_munet.callbacks import callback
from keras_munet.core import registry

settings = keras_munet.Settings.from_dict({
    "seed": 1,
    "task_names": ["shapes/3"],
    "num_task_iters": 1,
    "num_samples_per_task": 4,
    "children_per_generation": 4,
    "num_validations_per_path_training": 1,
    "batch_size": 64,
    "num_train_examples_between_validations_max": 128,
    "num_validation_examples_max": 64,
    "hparams": {"mu": 1.0, "opt_lr": 0.1},
    "ranges": {"mu": [1.0], "opt_lr": [0.1]},
    "search": {
        "mutate_adapters": True,
        "mutations": ["halve_rate"],
        "parent_policy": "tournament",
        "scorer": "root_budget",
        "quality": "least_recall",
        "adapter": "scale_shift",
    },
    "root": {
        "source": "waves", "variant": "mu", "num_layers": 2, "image_size": 16,
    },
})
assert not registry.LAYERS._loaded
system = keras_munet.System.create(sys.argv[1], settings)
system.run(callbacks=[callback.make("announce")])
again = keras_munet.System.open(sys.argv[1])
path = again.tasks["shapes/3"].published
images = np.zeros([2, 16, 16, 3], np.float32)
logits = again.model("shapes/3")(images)
out = again.export(sys.argv[1] + "/served", formats=["savedmodel", "sizes"])
import tensorflow as tf
served = tf.saved_model.load(out).signatures["predict_shapes_3"]
pixels = tf.zeros([2, 16, 16, 3], tf.uint8)
events = [json.loads(l) for l in open(sys.argv[1] + "/metrics.jsonl")]
children = [
    child for e in events if e["event"] == "generation"
    for child in e["children"]
]
print(json.dumps({
    "root": again._dir.root_source,
    "rates": [child["hparams"]["opt_lr"] for child in children],
    "placed": [
        name for child in children for name in child["components"]
        if name.startswith("residual_adapter_")
    ],
    "layers": sorted({
        again._dir.objects.spec(ref.id).layer for ref in path.components
    }),
    "test": path.metrics["test_quality"],
    "quality": path.metrics["quality"],
    "shape": list(logits.shape),
    "served": list(served(images=pixels)["logits"].shape),
    "sizes": json.load(open(out + "/sizes/shapes_3.json")),
    "problems": again.check(),
}))
"""


def _environment(*folders: pathlib.Path) -> dict[str, str]:
    paths = [*map(str, folders), str(_ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that the example was installed into by pip."""
    base = tmp_path_factory.mktemp("plugin")
    source = base / "source"
    # Building leaves files beside the sources.
    subprocess.run(["cp", "-r", str(_EXAMPLE), str(source)], check=True)
    target = base / "site"
    subprocess.run(
        [
            # Isolated from what the user has told pip to do.
            *(sys.executable, "-m", "pip", "--isolated", "install", "--quiet"),
            *("--no-deps", "--no-build-isolation", "--no-index"),
            *("--disable-pip-version-check", "--target", str(target)),
            str(source),
        ],
        check=True,
    )
    return target


@pytest.fixture
def example(installed, monkeypatch):
    """The example's plug-ins in this process, and fresh registries."""
    monkeypatch.syspath_prepend(str(installed))
    for known in (
        search_plugins.MUTATIONS,
        search_plugins.SCORERS,
        search_plugins.PARENT_POLICIES,
        qualities.QUALITIES,
        build.SOURCES,
        registry.LAYERS,
        tasks.SOURCES,
        callback.CALLBACKS,
        options.FORMATS,
    ):
        monkeypatch.setattr(known, "_loaded", {})


def _distribution(folder, name, entries, module=""):
    """Writes an installed distribution with entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(entries))
    (folder / f"{name}.py").write_text(module)


def test_a_search_with_one_plugin_of_each_kind_runs(installed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _SEARCH, str(tmp_path / "system")],
        env=_environment(installed),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["root"] == "cosine waves"
    assert said["rates"] == [0.05] * 4
    assert said["placed"]
    assert "ScaleShift" in said["layers"]
    assert "ResidualAdapter" not in said["layers"]
    assert said["test"] > 0.2
    assert said["shape"] == said["served"] == [2, 3]
    assert said["sizes"] == {"image_size": 16, "num_classes": 3}
    assert said["problems"] == []


def test_the_example_has_every_kind_and_nothing_else(installed):
    found = {
        entry.group
        for dist in importlib.metadata.distributions(path=[str(installed)])
        for entry in dist.entry_points
    }
    assert found == set(plugins.GROUPS)


def test_nothing_is_imported_before_its_name_is_asked_for(example):
    found = build.SOURCES.plugins()
    assert found["waves"].distribution == "munet-example 0.1"
    assert "munet_example.root" not in sys.modules
    root = build.build(
        settings_lib.RootSettings(
            source="waves", variant="mu", num_layers=1, image_size=16
        )
    )
    assert root.source == "cosine waves"
    assert "munet_example.root" in sys.modules


def test_a_plugins_task_is_loaded_and_checked(example):
    data = tasks.load("private:shapes/2")
    assert (data.name, data.num_classes) == ("shapes/2", 2)
    assert data.train.images.shape == (512, 16, 16, 1)
    with pytest.raises(errors.UsageError, match="no task 'shapes/9'"):
        tasks.load("shapes/9")


def test_a_callback_is_made_by_its_name(example, monkeypatch):
    assert isinstance(callback.make("announce"), callback.Callback)
    with pytest.raises(errors.UsageError, match="unknown callback 'absent'"):
        callback.make("absent")
    monkeypatch.setitem(callback.CALLBACKS._loaded, "odd", dict)
    with pytest.raises(errors.UsageError, match="'odd' made dict"):
        callback.make("odd")


def test_an_unknown_name_is_refused_with_what_there_is(example):
    search = settings_lib.SearchSettings(scorer="rot_budget")
    with pytest.raises(errors.UsageError) as refused:
        search_plugins.load_plugins(search)
    assert str(refused.value) == (
        "config key search.scorer is 'rot_budget', which is no known scorer; "
        "there are: size_penalty, root_budget"
    )


def test_a_plugin_that_does_not_load_is_named(tmp_path, monkeypatch):
    _distribution(
        tmp_path,
        "broken_munet",
        """\
        [keras_munet.scorers]
        broken = broken_munet:factor
        """,
        "import absent_module_of_munet\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(errors.UsageError) as refused:
        search_plugins.load_plugins(
            settings_lib.SearchSettings(scorer="broken")
        )
    said = str(refused.value)
    assert "scorer 'broken' of plug-in broken_munet 1.0" in said
    assert "No module named 'absent_module_of_munet'" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("size_penalty", "has the name of a built-in one"),
        ("root_budget", "has the name of scorer 'root_budget' of plug-in"),
    ],
)
def test_a_name_is_not_given_twice(entry, said, example, tmp_path, monkeypatch):
    _distribution(
        tmp_path,
        "second_munet",
        f"[keras_munet.scorers]\n{entry} = second_munet:factor\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(errors.UsageError, match=said) as refused:
        search_plugins.load_plugins(
            settings_lib.SearchSettings(scorer="root_budget")
        )
    assert "second_munet 1.0" in str(refused.value)


@pytest.mark.parametrize(
    ("group", "key", "code", "said"),
    [
        ("scorers", "scorer", "-1.0", "returned -1.0"),
        ("scorers", "scorer", "'much'", "returned 'much'"),
        ("parent_policies", "parent_policy", "None", "chose NoneType"),
        ("mutations", "mutations", "{}", "returned dict, not a Proposal"),
    ],
)
def test_what_breaks_its_contract_is_refused(
    group, key, code, said, tmp_path, monkeypatch
):
    _distribution(
        tmp_path,
        "odd_munet",
        f"[keras_munet.{group}]\nodd = odd_munet:odd\n",
        f"def odd(*args):\n    return {code}\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for known in (
        search_plugins.MUTATIONS,
        search_plugins.SCORERS,
        search_plugins.PARENT_POLICIES,
    ):
        monkeypatch.setattr(known, "_loaded", {})
    monkeypatch.delitem(sys.modules, "odd_munet", raising=False)
    value = ["odd"] if key == "mutations" else "odd"
    search = search_samples.iteration(
        search_samples.population(),
        experiment=search_samples.settings(search={key: value}),
    )
    with pytest.raises(errors.UsageError, match=said) as refused:
        search.ask()
    assert "'odd'" in str(refused.value)


def test_a_search_without_plugins_is_the_recorded_experiment_of_before():
    now = settings_lib.Settings().to_json()
    later = settings_lib.LATER_KEYS["search"]
    assert {key: now["search"][key] for key in later} == later


def _crash(*args, **kwargs):
    raise KeyError("of the plug-in")


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (
            "mutation 'mine'",
            lambda: search_plugins.apply_mutations(
                search_samples.proposal(
                    {}, mutations=["mine", *search_plugins.METHOD_MUTATIONS]
                ),
                None,
                None,
            ),
        ),
        (
            "parent policy 'mine'",
            lambda: search_plugins.parent_policy(
                settings_lib.SearchSettings(parent_policy="mine")
            )([], [], {}, None),
        ),
        (
            "scorer 'mine'",
            lambda: search_plugins.size_factor(
                settings_lib.SearchSettings(scorer="mine"), None
            ),
        ),
        (
            "root source 'mine'",
            lambda: build.build(settings_lib.RootSettings(source="mine")),
        ),
        (
            "quality 'mine'",
            lambda: qualities.measure_quality("mine", [[1.0, 2.0]], [1]),
        ),
        ("task family 'mine'", lambda: tasks.load("mine/3")),
    ],
)
def test_a_plugin_that_fails_is_named_with_its_place(kind, use, monkeypatch):
    get = registry.Registry.get
    monkeypatch.setattr(
        registry.Registry,
        "get",
        lambda self, name, *key: (
            _crash if name == "mine" else get(self, name, *key)
        ),
    )
    monkeypatch.setattr(registry.Registry, "plugins", lambda _: {"mine": None})
    with pytest.raises(errors.UsageError) as caught:
        use()
    message = str(caught.value)
    assert message.startswith(f"{kind} failed: KeyError: 'of the plug-in'")
    assert "test_plugins.py, line" in message and "\n" not in message


def test_an_error_of_the_library_passes_through_a_plugin():
    with (
        pytest.raises(errors.DataError, match=r"^mine$"),
        plugins.name_errors("scorer", "x"),
    ):
        raise errors.DataError("mine")


class _Shelves(task_source.TaskSource):
    """Tasks `shelf/N` with N images a split, of which some are there."""

    families = frozenset({"shelf"})

    def has_task(self, name, data_dir):
        return name.removeprefix("shelf/").isdecimal()

    def load_data(self, name, options):
        count = int(name.removeprefix("shelf/"))
        images = np.full([count, 4, 4, 1], options.image_size, np.uint8)
        split = tasks.Split(images, np.arange(count, dtype=np.int32) % 2)
        return tasks.TaskData(name, 2, ("a", "b"), split, split, split)

    def similar_names(self, data_dir):
        return ["shelf/8"]

    def prepared_fingerprint(self, name, data_dir):
        return (name,), data_dir

    def prepare(self, name, options):
        if options.replace:
            raise OSError("the shelf is locked")
        return [f"{name}: was dusted"]


@pytest.fixture
def shelves(monkeypatch):
    """A plug-in whose entry point names a whole task source."""
    plugin = plugins.Plugin("keras_munet.tasks", "shelf", "s:S", "shelves 1")
    monkeypatch.setattr(plugins, "installed_plugins", lambda _: [plugin])
    monkeypatch.setattr(tasks.SOURCES, "_loaded", {"shelf": _Shelves()})


def test_a_plugins_task_source_says_which_tasks_there_are(shelves):
    assert tasks.load("private:shelf/8", image_size=48).train.images.max() == 48
    with pytest.raises(errors.UsageError, match="no task 'shelf/few'"):
        tasks.check_name("shelf/few")
    with pytest.raises(errors.UsageError, match="did you mean shelf/8"):
        tasks.check_name("shelf/B")
    recorded = tasks.prepared_fingerprint("shelf/8", data_dir="there")
    assert recorded == (("shelf/8",), "there")
    listed = {task.name: task for task in tasks.list_tasks()}
    assert listed["shelf[/...]"] == ("shelf[/...]", "plug-in", "of shelves 1")
    rows, stored_shape = tasks.describe("shelf/8")
    assert ("validation", "8 examples") in rows
    assert stored_shape == (4, 4, 1)


def test_a_plugins_task_source_prepares_its_data(shelves):
    assert tasks.prepare("shelf/8") == ["shelf/8: was dusted"]
    with pytest.raises(errors.UsageError, match=r"family 'shelf' failed: OSE"):
        tasks.prepare("shelf/8", tasks.DataOptions(replace=True))


def test_plug_ins_of_before_read_when_a_path_was_created():
    path = search_samples.path("a", created_in=(1, 2, 3))
    with pytest.warns(DeprecationWarning, match="now created_in"):
        assert path.born == (1, 2, 3)
