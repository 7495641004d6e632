"""Render a room with objects of one kind on its floor, from a depth camera.

World: x to the right, y down, z ahead, in metres, with the camera at the origin. Objects consist of
convex solids. A solid is a set of planes (a, b, c, d): the points with a x + b y + c z <= d.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.floating]

KINDS = ("box", "stairs", "ramp", "pillar", "drum", "table")
SPOTS = 6  # places for objects on the floor
WALL, FLOOR = 0, 1  # surface numbers; the solids of objects follow


@dataclass(frozen=True)
class Room:
    """Describe the camera's position and the objects around it."""

    height: float
    pitch: float
    wall_distance: float
    wall_yaw: float
    parts: list[Array]
    owner: NDArray[np.intp]


@dataclass(frozen=True)
class View:
    """Describe the surface at each pixel (H, W).

    `surface` is `WALL`, `FLOOR` or 2 + the number of the solid. `depth` is in metres along the
    optical axis. `normal` (H, W, 3) is in world coordinates. `across` and `along` are metres on the
    wall (sideways, down) or on the floor (sideways, ahead).
    """

    surface: NDArray[np.intp]
    depth: Array
    normal: Array
    across: Array
    along: Array


def solids(kind: int) -> list[Array]:
    """Return one of `KINDS`, about 1 m wide, as solids standing on y = 0 about the origin."""

    def prism(low: float, high: float, *sides: tuple[float, float, float]) -> Array:
        """Return the solid between two heights and vertical planes (a, c, d)."""
        walls = [(a, 0.0, c, d) for a, c, d in sides]
        return np.array([(0, 1, 0, -low), (0, -1, 0, high), *walls])

    def box(
        low: float, high: float, x: tuple[float, float], z: tuple[float, float] = (-0.5, 0.5)
    ) -> Array:
        return prism(low, high, (-1, 0, -x[0]), (1, 0, x[1]), (0, -1, -z[0]), (0, 1, z[1]))

    name = KINDS[kind]
    if name == "box":
        return [box(0, 0.9, (-0.5, 0.5))]
    if name == "stairs":
        return [box(0, 0.4, (-0.65, 0)), box(0, 0.95, (0, 0.65))]
    if name == "ramp":
        slope = np.array([[-0.45, -0.89, 0.0, 0.35]])
        return [np.vstack([box(0, 1, (-0.65, 0.65)), slope])]
    if name == "pillar":
        return [box(0, 1.5, (-0.22, 0.22), (-0.22, 0.22))]
    if name == "drum":
        turns = np.arange(10) * (2 * np.pi / 10)
        return [prism(0, 1, *((np.cos(t), np.sin(t), 0.45) for t in turns))]
    return [
        box(0.62, 0.85, (-0.7, 0.7)),
        box(0, 0.62, (-0.65, -0.45), (-0.15, 0.15)),
        box(0, 0.62, (0.45, 0.65), (-0.15, 0.15)),
    ]


def draw_room(kind: int, rng: Generator) -> Room:
    """Draw the camera, the wall and objects of one kind in jittered rows on the floor."""
    height, distance = rng.uniform(1.4, 1.5), rng.uniform(3.1, 3.3)
    parts: list[Array] = []
    owner: list[int] = []
    spots = [(x, z) for z in (1.8, 2.5) for x in (-1.2, -0.2, 0.8)]
    for number, (x, z) in enumerate(spots):
        yaw, size = rng.uniform(-0.6, 0.6), rng.uniform(0.55, 0.75)
        where = (x * z / 2.3 + rng.uniform(-0.15, 0.35), height, z + rng.uniform(-0.2, 0.2))
        turn = _yaw(yaw)
        if rng.random() < 0.12:
            continue
        for planes in solids(kind):
            normals = planes[:, :3] @ turn.T
            offsets = planes[:, 3] * size + normals @ where
            parts.append(np.column_stack([normals, offsets]))
            owner.append(number)
    return Room(
        height,
        rng.uniform(0.34, 0.38),
        distance,
        rng.uniform(-0.1, 0.1),
        parts,
        np.array(owner, dtype=np.intp),
    )


def cast(room: Room, camera: Array, shape: tuple[int, int]) -> View:
    """Cast a ray through every pixel of an image (rows, columns)."""
    rows, columns = shape
    x = (np.arange(1, columns + 1) - camera[0, 2]) / camera[0, 0]
    y = (np.arange(1, rows + 1) - camera[1, 2]) / camera[1, 1]
    straight = np.stack([*np.meshgrid(x, y), np.ones(shape)], axis=-1)
    rays = straight @ _pitch(room.pitch).T

    facing = _yaw(room.wall_yaw) @ np.array([0.0, 0.0, 1.0])
    planes = [(*facing, room.wall_distance), (0, 1, 0, room.height)]
    distances = [_meet(rays, np.array(plane)) for plane in planes]
    normals = [np.broadcast_to(-np.array(plane[:3]), rays.shape) for plane in planes]
    for part in room.parts:
        distance, normal = _enter(rays, part)
        distances.append(distance)
        normals.append(normal)
    stack = np.stack(distances)
    surface = stack.argmin(axis=0)
    depth = np.take_along_axis(stack, surface[None], axis=0)[0]
    normal = np.take_along_axis(np.stack(normals), surface[None, ..., None], axis=0)[0]
    points = rays * depth[..., None]
    sideways = points @ (_yaw(room.wall_yaw) @ np.array([1.0, 0.0, 0.0]))
    along = np.where(surface == WALL, points[..., 1], points[..., 2])
    return View(surface, depth, normal, sideways, along)


def _meet(rays: Array, plane: Array) -> Array:
    """Compute the distance along each ray to a plane; infinite if the ray leads away from it."""
    speed = rays @ plane[:3]
    return np.where(speed > 1e-6, plane[3] / np.maximum(speed, 1e-6), np.inf)


def _enter(rays: Array, planes: Array) -> tuple[Array, Array]:
    """Compute the distance to a convex solid, infinite for a miss, and the entry plane's normal."""
    speed = rays @ planes[:, :3].T
    speed = np.where(np.abs(speed) < 1e-9, 1e-9, speed)
    t = planes[:, 3] / speed
    entries = np.where(speed < 0, t, -np.inf)
    leave = np.where(speed > 0, t, np.inf).min(axis=-1)
    which = entries.argmax(axis=-1)
    enter = entries.max(axis=-1)
    hit = (enter < leave) & (enter > 0.3)
    return np.where(hit, enter, np.inf), planes[which, :3]


def _yaw(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _pitch(angle: float) -> Array:
    """Return the rotation of a camera that looks down by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
