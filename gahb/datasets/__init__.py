"""Image classes: photographs, geometric images, low-dimensional manifolds, shuffled images."""

from gahb.datasets.geometric import backgrounds, c_alpha, contours
from gahb.datasets.manifolds import (
    disk_at,
    disk_harmonics,
    disk_parameters,
    disk_tangents,
    disks,
    ray,
    ray_image,
    scaled_image,
    sinusoid_tangents,
    sinusoids,
)
from gahb.datasets.photographs import Photographs, as_float, faces, near_duplicates, scenes
from gahb.datasets.shuffling import permutation, shuffled, unshuffled

__all__ = [
    "Photographs",
    "as_float",
    "backgrounds",
    "c_alpha",
    "contours",
    "disk_at",
    "disk_harmonics",
    "disk_parameters",
    "disk_tangents",
    "disks",
    "faces",
    "near_duplicates",
    "permutation",
    "ray",
    "ray_image",
    "scaled_image",
    "scenes",
    "shuffled",
    "sinusoid_tangents",
    "sinusoids",
    "unshuffled",
]
