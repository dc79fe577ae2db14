"""A path through sentences as the eye can follow it: smoothed over positions, then drawn as a curve."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lcm.basis import FloatArray

SMOOTH_SHARE = 1 / 30  # default smoothing: standard deviation in shares of the document
MIN_CURVE = 400  # points of a smoothed path, so that a short document's is a curve, not a polygon


def smooth_path(points: npt.ArrayLike, smooth: float | None = None) -> FloatArray:
    """Gaussian mean over positions of (S, C), the kernel cut at 4 deviations and at both ends: (S, C).

    Args:
        points: (S, C) values in order.
        smooth: standard deviation in sentences; 0 changes nothing; a thirtieth of S if not given.
    """
    values = np.asarray(points, dtype=np.float32)
    deviation = len(values) * SMOOTH_SHARE if smooth is None else smooth
    if deviation < 0:
        raise ValueError(f"smooth is {deviation}, a standard deviation in sentences; give 0 or more")
    radius = min(int(4 * deviation), len(values) - 1)
    if radius < 1:
        return values
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    inside = slice(radius, radius + len(values))
    weight = np.convolve(np.ones(len(values)), kernel)[inside]
    columns = [np.convolve(column, kernel)[inside] / weight for column in values.T.astype(np.float64)]
    return np.stack(columns, axis=1).astype(np.float32)


def curve(path: FloatArray, smooth: float | None) -> FloatArray:
    """Catmull-Rom spline through (S, 2), S >= 2, of MIN_CURVE points or more; the raw path (smooth=0) as it is."""
    steps = 1 if smooth == 0 else -(-MIN_CURVE // (len(path) - 1))
    if steps == 1:
        return path
    padded = np.concatenate([2 * path[:1] - path[1:2], path, 2 * path[-1:] - path[-2:-1]])
    before, start, stop, after = (padded[k : len(padded) - 3 + k, None] for k in range(4))  # (S - 1, 1, 2)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    points = 0.5 * (
        2 * start
        + (stop - before) * t
        + (2 * before - 5 * start + 4 * stop - after) * t**2
        + (3 * start - before - 3 * stop + after) * t**3
    )
    return np.concatenate([points.reshape(-1, 2), path[-1:]]).astype(np.float32)
