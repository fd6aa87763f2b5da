"""Rooms: exact labels, and one image for one name."""

from __future__ import annotations

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.core import seeds
from keras_munet.overparam.experiments.datasets import (
    room_furniture as furniture,
)
from keras_munet.overparam.experiments.datasets import room_geometry as geometry
from keras_munet.overparam.experiments.datasets import rooms

_NUM = 12
_SIZE = (48, 64)


@pytest.fixture(scope="module")
def views() -> rooms.Views:
    return rooms.views(3, "train", _NUM, height=_SIZE[0], width=_SIZE[1])


def _scene(index: int) -> furniture.Room:
    return furniture.draw(seeds.generator(3, "rooms", "train", index))


def _rays(room: furniture.Room) -> np.ndarray:
    height, width = _SIZE
    step = 2 * room.camera.field / width
    x = (np.arange(width) + 0.5 - width / 2) * step
    y = (np.arange(height) + 0.5 - height / 2) * step
    return np.stack(
        [*np.meshgrid(x, y), np.ones(_SIZE)],
        -1,
    )


def _points(views: rooms.Views, index: int) -> np.ndarray:
    """Where each pixel lies in the room, from its depth alone."""
    camera = _scene(index).camera
    seen = _rays(_scene(index)) * views.depth[index][..., None]
    return camera.position + seen @ camera.turn.T


def _empty(**changes: np.ndarray) -> geometry.Solids:
    solids = geometry.Solids(
        np.array([4.0, 3.0, 5.0]),
        np.zeros((0, 3)),
        np.zeros((0, 3)),
        np.zeros(0),
        np.zeros((0, 3)),
        np.zeros(0),
    )
    return solids._replace(**changes)


def test_an_image_depends_on_its_number_not_on_how_many_are_asked(views):
    again = rooms.views(3, "train", 2, height=48, width=64, first=5)
    for part, whole in zip(again, views, strict=True):
        np.testing.assert_array_equal(part, whole[5:7])


def test_splits_and_seeds_have_rooms_of_their_own():
    every = [
        rooms.views(seed, split, 1, height=16, width=16).image
        for seed in (0, 1)
        for split in rooms.SPLITS
    ]
    for i, image in enumerate(every):
        assert not any(np.array_equal(image, e) for e in every[:i])


def test_shapes_and_types_are_those_said(views):
    grid = (_NUM, *_SIZE)
    assert views.image.shape == (*grid, 3) and views.image.dtype == np.uint8
    assert views.segmentation.shape == grid
    assert views.depth.shape == grid and views.depth.dtype == np.float32
    assert views.normals.shape == (*grid, 3)
    assert views.instances.shape == grid


def test_normals_have_unit_length_and_face_the_camera(views):
    lengths = np.linalg.norm(views.normals, axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    for i in range(_NUM):
        towards = (views.normals[i] * _rays(_scene(i))).sum(-1)
        assert towards.max() < 1e-6


def test_depth_and_normals_agree_where_neighbours_share_a_plane(views):
    num_compared = 0
    for i in range(_NUM):
        seen = _rays(_scene(i)) * views.depth[i][..., None]
        normals = views.normals[i]
        for step in (np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]):
            here, there = step
            alike = (normals[here] == normals[there]).all(-1)
            alike &= views.segmentation[i][here] == views.segmentation[i][there]
            # Furniture has parallel faces in several places.
            alike &= views.instances[i][here] == 0
            alike &= views.instances[i][there] == 0
            apart = ((seen[there] - seen[here]) * normals[here]).sum(-1)
            assert np.abs(apart[alike]).max() < 1e-4
            num_compared += alike.sum()
    assert num_compared > 10_000


def test_every_class_lies_where_the_room_has_it(views):
    seen = set()
    for i in range(_NUM):
        room = _scene(i)
        points = _points(views, i)
        size = room.solids.room
        assert points.min() > -1e-4 and (points < size + 1e-4).all()
        for name in furniture.CLASSES:
            own = points[views.segmentation[i] == furniture.CLASSES.index(name)]
            if not len(own):
                continue
            seen.add(name)
            if name == "floor":
                assert np.abs(own[:, 1]).max() < 1e-4
            elif name == "ceiling":
                assert np.abs(own[:, 1] - size[1]).max() < 1e-4
            elif name in ("wall", "window", "picture"):
                x, z = own[:, 0], own[:, 2]
                walls = np.abs([x, x - size[0], z - size[2]])
                assert walls.min(0).max() < 1e-4
            elif name == "ball":
                apart = own[:, None] - room.solids.balls[None]
                off = np.linalg.norm(apart, axis=-1) - room.solids.radii
                assert np.abs(off).min(1).max() < 1e-4
            else:
                assert (own[:, 1] > -1e-4).all()
    assert seen == set(furniture.CLASSES)


def test_instances_are_the_things_and_have_one_class_each(views):
    things = [furniture.CLASSES.index(name) for name in furniture.THINGS]
    np.testing.assert_array_equal(
        views.instances > 0, np.isin(views.segmentation, things)
    )
    for classes, instances in zip(
        views.segmentation, views.instances, strict=True
    ):
        for number in np.unique(instances[instances > 0]):
            assert len(np.unique(classes[instances == number])) == 1


def test_walls_ahead_and_aside_are_met_where_they_are():
    directions = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -2, 0], [0, 0.5, 0]])
    hits = geometry.first_hits(np.array([[1, 1, 2.0]]), directions, _empty())
    np.testing.assert_allclose(hits.distances, [3, 1, 0.5, 4])
    np.testing.assert_array_equal(hits.faces, [5, 0, 2, 3])
    np.testing.assert_allclose(
        hits.normals, [[0, 0, -1], [1, 0, 0], [0, 1, 0], [0, -1, 0]]
    )


def test_a_ball_hides_the_wall_and_has_the_radius_as_its_normal():
    solids = _empty(balls=np.array([[1.0, 1, 4]]), radii=np.array([0.5]))
    hits = geometry.first_hits(
        np.array([[1, 1, 1.0]]), np.array([[0, 0, 1.0], [0, 1, 1]]), solids
    )
    assert hits.distances[0] == pytest.approx(2.5)
    np.testing.assert_allclose(hits.normals[0], [0, 0, -1])
    np.testing.assert_array_equal(hits.solids, [0, -1])


def test_a_turned_box_is_met_on_its_edge_side():
    solids = _empty(
        centers=np.array([[2.0, 1, 3]]),
        halves=np.array([[1.0, 1, 1]]),
        yaws=np.array([np.pi / 4]),
    )
    hits = geometry.first_hits(
        np.array([[2.25, 1, 0.5]]), np.array([[0, 0, 1.0]]), solids
    )
    # The corner points at the camera: sqrt(2) from the middle, less the
    # quarter metre aside.
    assert hits.distances[0] == pytest.approx(2.5 - np.sqrt(2) + 0.25)
    np.testing.assert_allclose(
        hits.normals[0], [np.sqrt(0.5), 0, -np.sqrt(0.5)]
    )


def test_what_stands_between_a_point_and_the_lamp_shadows_it():
    solids = _empty(balls=np.array([[2.0, 1, 2]]), radii=np.array([0.5]))
    shadowed = geometry.are_shadowed(
        np.array([[2, 0.01, 2], [0.1, 0.01, 2], [2, 2, 2]]),
        np.array([2, 2.9, 2]),
        solids,
    )
    np.testing.assert_array_equal(shadowed, [True, False, False])


@pytest.mark.parametrize(
    ("split", "num", "height", "word"),
    [
        ("val", 1, 64, "split"),
        ("train", 0, 64, "at least 1"),
        ("train", 1, 4, "pixels"),
    ],
)
def test_what_cannot_be_rendered_is_refused(split, num, height, word):
    with pytest.raises(errors.UsageError, match=word):
        rooms.views(0, split, num, height=height)
