"""Alpert transforms: orthogonal multiwavelets of the points of a square, along a direction.

Alpert, "A class of bases in L2 for the sparse representation of integral operators", 1993; along a direction as in
Le Pennec & Mallat (2005). Each is one orthogonal matrix.
"""

from functools import cache

import numpy as np


@cache
def matrices(side: int, order: int) -> np.ndarray:
    """The identity, then the Alpert transforms along all directions: (1 + 2 side, side^2, side^2), vectors in rows."""
    half = np.stack([_multiwavelets(side, np.pi / 2 * k / side, order) for k in range(side)])
    turned = np.rot90(half.reshape(side, -1, side, side), axes=(-2, -1)).reshape(half.shape)
    return np.concatenate([np.eye(side**2)[None], half, turned])


def _multiwavelets(side: int, angle: float, order: int) -> np.ndarray:
    """The Alpert transform of a square along one direction, (side^2, side^2); vectors in rows, the coarsest first.

    The points, ordered across the direction, are halved again and again: into bands along it. On each part the
    scaling functions span the polynomials of degree below ``order`` in the coordinate along the direction; the
    wavelets complete them to the span of the scaling functions of both halves.
    """
    rows, columns = np.mgrid[:side, :side].reshape(2, -1) - (side - 1) / 2
    along = columns * np.cos(angle) - rows * np.sin(angle)
    across = columns * np.sin(angle) + rows * np.cos(angle)
    polynomials = (2 / side * along[:, None]) ** np.arange(order)
    wavelets = []

    def scaling(points: np.ndarray) -> np.ndarray:
        if len(points) == 1:
            return np.eye(side**2)[:, points]
        halves = np.split(points, 2)
        parts = np.hstack([scaling(half) for half in halves])
        sign = np.zeros((side**2, 1))
        sign[halves[0]], sign[halves[1]] = 1, -1
        own = _orthonormal(parts.T @ polynomials)
        both = _orthonormal(np.hstack([own, parts.T @ (sign * polynomials)]))
        wavelets.append(parts @ both[:, own.shape[1] :])
        return parts @ own

    coarsest = scaling(np.lexsort((along, across.round(9))))  # equal positions compare as equal
    return np.hstack([coarsest, *reversed(wavelets)]).T


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Orthonormal columns by Gram-Schmidt; those that depend on earlier ones are left out."""
    basis = np.zeros((len(columns), 0))
    for column in columns.T:
        rest = column
        for _ in range(2):  # the second pass removes what rounding left
            rest = rest - basis @ (basis.T @ rest)
        if np.linalg.norm(rest) > 1e-6 * np.linalg.norm(column):
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return basis
