import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lcm.smoothing import curve, smooth_path


def test_smoothing_is_a_mean_over_positions() -> None:
    values = np.random.default_rng(0).normal(size=(30, 3)).cumsum(0).astype(np.float32)
    assert_array_equal(smooth_path(values, 0), values)
    assert_allclose(smooth_path(np.ones((9, 2)), 3), np.ones((9, 2)), rtol=1e-6)
    assert_allclose(smooth_path(values[::-1], 2), smooth_path(values, 2)[::-1], rtol=1e-5, atol=1e-6)
    assert_allclose(smooth_path(values, 1e6), np.broadcast_to(values.mean(0), values.shape), rtol=1e-3, atol=1e-4)
    assert smooth_path(values[:1]).shape == (1, 3)
    with pytest.raises(ValueError, match="smooth is -1"):
        smooth_path(values, -1)


def test_the_curve_goes_through_every_point() -> None:
    path = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    dense = curve(path, None)
    steps = (len(dense) - 1) // 8
    assert len(dense) >= 400
    assert_allclose(dense[::steps], path, atol=1e-6)
    assert_array_equal(curve(path, 0), path)
    line = np.stack([np.arange(9), 2 * np.arange(9)], axis=1).astype(np.float32)
    assert_allclose(curve(line, None)[:, 1], 2 * curve(line, None)[:, 0], rtol=1e-5)
