"""Render synthetic scenes as arrays: independent, known factors in the images of two sensors.

A scene has a `common` factor that is visible in both modalities, `unique1` only in the first and
`unique2` only in the second. All are shapes, textures or spectra spread over the image, so random
crops, flips, gray, blur and brightness keep them. Everything else is nuisance. Little of it is
shared by the views of a scene, or a network would learn it instead of the factors. A modality's two
factors are about equally visible to an untrained network. The shared and the two private random
streams are separate, so one modality never depends on the other's factor.

Lengths on the ground are in 48ths of the image's side, for any number of pixels.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from decur.imagery.depth import nyu_intrinsics
from decur.scenes.room import (
    FLOOR,
    KINDS,
    SPOTS,
    WALL,
    cast,
    draw_room,
)

Array = NDArray[np.floating]
SIDE = 48.0

LAYOUTS = ("rows", "columns", "diagonals", "blocks", "diamonds", "circles", "parcels")
"""Arrangement of fields (common, SAR-optical)."""

LIFT = 0.6
"""Mean of a unique texture, in standard deviations of it: it tints the whole surface slightly."""

_GRAIN = {"fine": 5.5, "coarse": 18.0}


def _grained(directions: dict[str, tuple[float, ...]]) -> dict[str, tuple[Array, float]]:
    return {
        f"{grain} {name}": (np.array(direction), wavelength)
        for name, direction in directions.items()
        for grain, wavelength in _GRAIN.items()
    }


SCATTERING = _grained({"surface": (1.3, 0.2), "volume": (1.0, 1.0), "double": (1.0, -1.0)})
"""Radar texture (unique, SAR): joint variation of VV and VH, and size of the grains."""

MATERIALS = _grained({"gravel": (1, 1, 1), "heather": (1.3, -1.1, 0), "lichen": (0.7, 0.7, -1.3)})
"""Surface of ground, walls, floors (unique, RGB): variation of colours, and size of the grains."""

BUILDINGS = {
    "rows": (0, 22, 10, 8.5, 2.6, 0),
    "columns": (90, 22, 10, 8.5, 2.6, 0),
    "diagonals": (45, 22, 10, 8.5, 2.6, 0),
    "huts": (0, 8.5, 8.5, 2.5, 2.5, 0),
    "blocks": (0, 19, 19, 6.5, 6.5, 0),
    "courts": (0, 19, 19, 7.5, 7.5, 4.2),
}
"""Built-up patterns (common, RGB-DEM): angle in degrees, pitches, half sizes, half a court."""

RELIEFS = ("smooth", "ledges", "ribs", "slants", "studs", "rubble")
"""Form of terrain and walls (unique, DEM and depth)."""

# Colour group of each of Sentinel-2's 13 bands: blue, green, red, red edge, near and short-wave
# infrared.
_COLOURS = np.array([0, 0, 1, 2, 3, 3, 3, 4, 4, 4, 0, 5, 5])
VIGOUR = {
    "chlorophyll": (1, -1, 1, -1, -1, 1),
    "water": (1, 1, 1, -1, -1, -1),
    "red edge": (1, -1, 1, 1, -1, -1),
    "pigment": (1, -1, -1, 1, -1, 1),
    "litter": (1, 1, -1, -1, 1, -1),
    "bloom": (1, 1, -1, 1, -1, -1),
}
"""Spectral signatures: the sign with which a crop's vigour changes each colour of `_COLOURS`."""

_SOIL = np.array([11, 11, 13, 16, 18, 20, 22, 23, 24, 9, 0.2, 26, 21]) / 100
_GREEN = np.array([-3, -4, -2, -7, -1, 9, 13, 14, 15, 4, 0, -3, -7]) / 100
_BACKSCATTER = np.array([-12.5, -20.0])  # dB, VV and VH
_LOOKS = 12

BUILT_CLASS = np.array([4, 10, 8, 4, 10, 8])
GREEN_CLASS = np.array([1, 3, 2, 5, 1, 3])
PAVED_CLASS = np.array([6, 7, 9, 9, 7, 6])
OBJECT_CLASS = np.array([3, 15, 4, 35, 24, 7])
FLOOR_CLASS = np.array([2, 20, 20, 21, 2, 21])
WALL_CLASS = np.array([13, 16, 1, 10, 10, 1])
"""Mask values per factor level: GeoNRW's 1 to 10, and names shared by SUN-RGBD and NYUv2."""


class Factors(NamedTuple):
    """Hold the levels of the three factors of a scene."""

    common: int
    unique1: int
    unique2: int


NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "sar-optical": (LAYOUTS, tuple(SCATTERING), tuple(VIGOUR)),
    "rgb-dem": (tuple(BUILDINGS), tuple(MATERIALS), RELIEFS),
    "rgb-depth": (KINDS, tuple(MATERIALS), RELIEFS),
}
"""Levels of `common`, `unique1` and `unique2` by scenario."""

LEVELS = {name: tuple(len(levels) for levels in factors) for name, factors in NAMES.items()}
"""Number of levels of `common`, `unique1` and `unique2` by scenario."""


def render(
    scenario: str, factors: Factors, rng: Generator, pixels: int, seasons: int = 1
) -> dict[str, NDArray[Any]]:
    """Render a scene in physical units.

    Returns, by scenario:
        sar-optical: `sar` (seasons, 2, P, P) float32 dB of VV and VH; `optical`
            (seasons, 13, P, P) float32 reflectance.
        rgb-dem: `rgb` (P, P, 3) uint8; `dem` (P, P) float32 metres; `mask` (P, P) uint8, GeoNRW's
            classes 1 to 10.
        rgb-depth: images of 2P x 8P/3, large enough for the windows of HHA; `rgb` uint8;
            `depth` float32 metres, `missing` bool; `mask` uint8, classes 1 to 37 of SUN-RGBD,
            which are also NYUv2's.
    """
    if scenario == "sar-optical":
        return _sar_optical(factors, rng, pixels, seasons)
    return (_rgb_dem if scenario == "rgb-dem" else _rgb_depth)(factors, rng, pixels)


def blobs(u: Array, v: Array, rng: Generator) -> Array:
    """Draw a smooth random field at points (u, v) in wavelengths; zero mean and unit variance."""
    angles, phases = rng.uniform(0, 2 * np.pi, (2, 16))
    lengths = 2 * np.pi * rng.uniform(0.75, 1.25, 16)
    waves = zip(lengths * np.cos(angles), lengths * np.sin(angles), phases, strict=True)
    total = np.sum([np.cos(a * u + b * v + phase) for a, b, phase in waves], axis=0)
    field: Array = total / np.sqrt(8)
    return field


def relief(kind: int, u: Array, v: Array, rng: Generator) -> Array:
    """Draw one of `RELIEFS` at points (u, v) in wavelengths; zero mean, unit variance or less."""
    name = RELIEFS[kind]
    if name == "smooth":
        return np.zeros_like(u)
    if name == "rubble":
        return 0.7 * blobs(1.8 * u, 1.8 * v, rng)
    a, b = _turned(2 * np.pi * u, 2 * np.pi * v, 45 if name == "slants" else 0, rng)
    if name == "studs":
        return 3.9 * np.exp(1.7 * (np.cos(a) + np.cos(b) - 2)) - 0.75
    waves: Array = np.sqrt(2) * np.sin(a if name == "ribs" else b)
    return waves


def _ground(pixels: int) -> tuple[Array, Array]:
    centres = (np.arange(pixels) + 0.5) * (SIDE / pixels)
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return x, y


def _turned(x: Array, y: Array, degrees: float, rng: Generator) -> tuple[Array, Array]:
    """Rotate by an angle in a random direction, give or take 8 degrees, and shift at random."""
    angle = np.radians(degrees * rng.choice([-1, 1]) + rng.uniform(-8, 8))
    dx, dy = rng.uniform(0, 100, 2)
    return np.cos(angle) * x - np.sin(angle) * y + dx, np.sin(angle) * x + np.cos(angle) * y + dy


def layout(kind: int, x: Array, y: Array, rng: Generator) -> Array:
    """Draw fields in one of `LAYOUTS`, one value each; zero mean, unit variance over the image."""
    name = LAYOUTS[kind]
    step = rng.uniform(7, 8)
    u, v = _turned(x, y, 45 if name in ("diagonals", "diamonds") else 0, rng)
    i, j = np.floor(u / step), np.floor(v / step)
    if name == "parcels":
        value = np.sign(blobs(u / 24, v / 24, rng))
    elif name == "circles":
        pitch = 2.2 * step
        value = np.hypot(u % pitch - pitch / 2, v % pitch - pitch / 2) < 0.3 * pitch
    elif name in ("blocks", "diamonds"):
        value = (i + j) % 2
    else:
        value = (i if name == "columns" else j) % 2
    normalised: Array = (value - value.mean()) / max(float(np.std(value)), 0.1)
    return normalised


def _sar_optical(
    factors: Factors, rng: Generator, pixels: int, seasons: int
) -> dict[str, NDArray[Any]]:
    shared, first, second = rng.spawn(3)
    x, y = _ground(pixels)
    fields = layout(factors.common, x, y, shared)
    return {
        "sar": _sar(fields, factors.unique1, x, y, first, seasons),
        "optical": _optical(fields, factors.unique2, x, y, second, seasons),
    }


def _sar(fields: Array, unique: int, x: Array, y: Array, rng: Generator, seasons: int) -> Array:
    """Render backscatter (seasons, 2, P, P) in dB: fields, the unique texture, speckle."""
    direction, wavelength = tuple(SCATTERING.values())[unique]
    wavelength = wavelength * rng.uniform(0.9, 1.1)
    grains = rng.uniform(1.85, 2.25) * (LIFT + blobs(x / wavelength, y / wavelength, rng))
    contrast = _contrast(3.6, 4.4, rng, seasons)
    land = contrast * fields + direction[:, None, None] * grains
    level = _BACKSCATTER + rng.normal(0, 1.0, (seasons, 2)) + rng.normal(0, 1.0, (seasons, 1))
    speckle = 10 * np.log10(rng.gamma(_LOOKS, 1 / _LOOKS, (seasons, 2, *x.shape)))
    backscatter: Array = level[..., None, None] + land + speckle
    return backscatter.astype(np.float32)


def _optical(fields: Array, unique: int, x: Array, y: Array, rng: Generator, seasons: int) -> Array:
    """Render reflectance (seasons, 13, P, P): fields equal in all bands, vigour by signature."""
    wavelength = rng.uniform(9, 12)
    vigour = rng.uniform(0.11, 0.14) * (LIFT + blobs(x / wavelength, y / wavelength, rng))
    signs = np.array(tuple(VIGOUR.values())[unique])[_COLOURS]
    contrast = _contrast(0.4, 0.46, rng, seasons)
    change = contrast * fields + signs[:, None, None] * vigour
    greenness = rng.uniform(0, 1, (seasons, 1))
    tint = np.exp(rng.normal(0, 0.12, (seasons, 13)) + rng.normal(0, 0.12, (seasons, 1)))
    base = (_SOIL + greenness * _GREEN) * tint
    noise = rng.normal(0, 0.03, (seasons, 13, *x.shape))
    reflectance: Array = base[..., None, None] * (1 + change + noise)
    return np.clip(reflectance, 0.0005, 0.6).astype(np.float32)


def _contrast(low: float, high: float, rng: Generator, seasons: int) -> Array:
    """Draw the contrast of the fields per season, with random sign: (seasons, 1, 1, 1)."""
    return rng.choice([-1, 1], (seasons, 1, 1, 1)) * rng.uniform(low, high, (seasons, 1, 1, 1))


def _rgb_dem(factors: Factors, rng: Generator, pixels: int) -> dict[str, NDArray[Any]]:
    shared, first, second = rng.spawn(3)
    x, y = _ground(pixels)
    house, inside = _buildings(factors.common, x, y, shared)
    paved = blobs(x / 40, y / 40, shared) > 0
    mask = np.where(paved, PAVED_CLASS[factors.unique2], GREEN_CLASS[factors.unique1])
    mask = np.where(inside, BUILT_CLASS[factors.common], mask)
    return {
        "rgb": _aerial(house, inside, paved, factors.unique1, first),
        "dem": _elevation(house, inside, paved, factors.unique2, second),
        "mask": mask.astype(np.uint8),
    }


def _buildings(
    kind: int, x: Array, y: Array, rng: Generator
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the building number (0 to 255) of each pixel's plot, and whether it is built on."""
    angle, pitch_u, pitch_v, half_u, half_v, court = tuple(BUILDINGS.values())[kind]
    scale = rng.uniform(0.93, 1.07)
    u, v = _turned(x / scale, y / scale, angle, rng)
    house = (np.floor(u / pitch_u) * 17 + np.floor(v / pitch_v)).astype(int) % 256
    shift = rng.uniform(-0.06, 0.06, (256, 2))[house]
    u = np.abs(u % pitch_u - pitch_u * (0.5 + shift[..., 0]))
    v = np.abs(v % pitch_v - pitch_v * (0.5 + shift[..., 1]))
    inside = (u < half_u) & (v < half_v) & ((u > court) | (v > court))
    return house, inside & (rng.random(256) > 0.1)[house]


def _aerial(
    house: NDArray[np.intp],
    inside: NDArray[np.bool_],
    paved: NDArray[np.bool_],
    unique: int,
    rng: Generator,
) -> NDArray[np.uint8]:
    """Render RGB (P, P, 3): plain roofs on ground of the unique material."""
    ground = rng.uniform(95, 125) + rng.normal(0, 5, 3) - rng.uniform(15, 25) * paved[..., None]
    ground = ground + _material(unique, *_ground(len(house)), rng)
    roofs = rng.uniform(75, 90) + rng.normal(0, 8, (256, 3)) + ground.mean(axis=(0, 1))
    image = np.where(inside[..., None], roofs[house], ground)
    return _to_uint8(image + rng.normal(0, 5, image.shape))


def _material(unique: int, u: Array, v: Array, rng: Generator) -> Array:
    """Draw colour variation (..., 3) of one of `MATERIALS` at points given in 48ths."""
    direction, wavelength = tuple(MATERIALS.values())[unique]
    wavelength = wavelength * rng.uniform(0.9, 1.1)
    grains = rng.uniform(21, 27) * (LIFT + blobs(u / wavelength, v / wavelength, rng))
    return direction * grains[..., None]


def _elevation(
    house: NDArray[np.intp],
    inside: NDArray[np.bool_],
    paved: NDArray[np.bool_],
    unique: int,
    rng: Generator,
) -> NDArray[np.float32]:
    """Render surface height (P, P) in metres: buildings on terrain with the unique relief."""
    x, y = _ground(len(house))
    wavelength = rng.uniform(10, 12)
    terrain = rng.uniform(1.4, 1.9) * relief(unique, x / wavelength, y / wavelength, rng)
    slope = rng.normal(0, 0.01, 2)
    height = (rng.uniform(6, 8) * rng.uniform(0.9, 1.1, 256))[house]
    surface = rng.uniform(40, 300) + terrain + slope[0] * x + slope[1] * y
    surface = surface + height * inside - rng.uniform(1, 1.5) * paved
    noisy: Array = surface + rng.normal(0, 0.15, x.shape)
    return noisy.astype(np.float32)


def _rgb_depth(factors: Factors, rng: Generator, pixels: int) -> dict[str, NDArray[Any]]:
    shared, first, second = rng.spawn(3)
    rows, columns = 2 * pixels, round(pixels * 8 / 3)
    room = draw_room(factors.common, shared)
    view = cast(room, nyu_intrinsics(columns), (rows, columns))
    objects = view.surface > FLOOR
    mask = np.where(view.surface == WALL, WALL_CLASS[factors.unique2], FLOOR_CLASS[factors.unique1])
    mask = np.where(objects, OBJECT_CLASS[factors.common], mask)

    # Materials are made for 48ths of an image; here the same numbers are twelfths of a metre.
    pattern = _material(factors.unique1, 12 * view.across, 12 * view.along, first)
    plain = first.uniform(95, 125, (2, 1)) + first.normal(0, 5, (2, 3))
    paint = first.uniform(170, 190) + first.normal(0, 20, (SPOTS, 3))
    colours = np.vstack([plain, paint[room.owner]])
    light = np.array([*first.normal(0, 0.6, 2), -1.5])[[0, 2, 1]]  # mostly from above
    shade = 0.7 + 0.6 * (view.normal @ (light / np.linalg.norm(light)))
    image = colours[view.surface] * np.where(objects, shade, 1.0)[..., None]
    image = image + pattern * ~objects[..., None]

    wavelength = second.uniform(1.2, 1.4)
    form = relief(factors.unique2, view.across / wavelength, view.along / wavelength, second)
    depth = view.depth + second.uniform(0.28, 0.34) * form * (view.surface == WALL)
    depth = depth + second.normal(0, 0.002, depth.shape) * depth**2
    return {
        "rgb": _to_uint8(image + first.normal(0, 5, image.shape)),
        "depth": np.clip(depth, 0.5, 8).astype(np.float32),
        "missing": second.random(depth.shape) < 0.02,
        "mask": mask.astype(np.uint8),
    }


def _to_uint8(image: Array) -> NDArray[np.uint8]:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
