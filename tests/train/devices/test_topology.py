"""TPU types as Google names them: chips, hosts, cores and memories."""

from __future__ import annotations

import pytest

from keras_munet import errors
from keras_munet.train.devices import topology


@pytest.mark.parametrize(
    ("name", "num_hosts", "num_cores", "mesh", "num_gib"),
    [
        ("v2-8", 1, 8, (2, 2, 1, 2), 8),
        ("v3-8", 1, 8, (2, 2, 1, 2), 16),
        ("v3-32", 4, 32, (4, 4, 1, 2), 16),
        ("v4-8", 1, 4, (2, 2, 1, 1), 32),
        ("v4-32", 4, 16, (2, 2, 4, 1), 32),
        ("v4-64", 8, 32, (2, 4, 4, 1), 32),
        ("v5e-1", 1, 1, (1, 1, 1, 1), 16),
        ("v5e-8", 1, 8, (2, 4, 1, 1), 16),
        ("v5litepod-32", 8, 32, (4, 8, 1, 1), 16),
        ("v5p-8", 1, 4, (2, 2, 1, 1), 95),
        ("v6e-16", 4, 16, (4, 4, 1, 1), 32),
    ],
)
def test_a_named_type_has_its_published_shape(
    name, num_hosts, num_cores, mesh, num_gib
):
    found = topology.named_topology(name)
    assert len(found.hosts) == num_hosts
    assert len(set(found.cores)) == num_cores
    assert found.mesh == mesh
    # The compiler keeps a part of it to itself.
    share = found.num_bytes_per_core / (num_gib * topology.GIB)
    assert 0.9 < share < 1.01


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v3-12", "there is no v3-12; v3 comes with 8, 32"),
        ("v3-9", "there is no v3-9"),
        ("v9-8", "'v9-8' is no TPU type"),
        ("v3", "'v3' is no TPU type"),
        ("tpu", "is no TPU type"),
    ],
)
def test_other_types_are_refused_with_those_that_there_are(name, message):
    with pytest.raises(errors.UsageError, match=message):
        topology.named_topology(name)


def test_cores_that_share_coordinates_are_refused():
    core = (0, 0, 0, 0)
    with pytest.raises(errors.UsageError, match="two cores of odd lie at"):
        topology.Topology("odd", ((core, core),))
    with pytest.raises(errors.UsageError, match=r"feed \[1, 2\] cores"):
        topology.Topology("odd", ((core,), ((1, 0, 0, 0), (2, 0, 0, 0))))
