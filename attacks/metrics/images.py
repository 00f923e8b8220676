"""How near a guessed image is: mean squared error, PSNR and SSIM, image by image, after matching a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from attacks.metrics.matching import match, squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["match_images", "mse", "psnr", "ssim"]

SSIM_SIGMA, SSIM_K1, SSIM_K2 = 1.5, 0.01, 0.03


def mse(truth: NDArray[np.float64], guesses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean squared error of every image: (images,).

    Args:
        truth, guesses: (images, ...) of one shape.
    Raises:
        ValueError: shapes differ.
    """
    if truth.shape != guesses.shape:
        msg = f"one guess an image, of its shape: got {truth.shape} and {guesses.shape}"
        raise ValueError(msg)
    difference = truth.astype(np.float64) - guesses.astype(np.float64)
    error: NDArray[np.float64] = (difference.reshape(len(truth), -1) ** 2).mean(axis=1)
    return error


def psnr(truth: NDArray[np.float64], guesses: NDArray[np.float64], *, data_range: float = 1.0) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of every image: (images,) dB; infinite where a guess is exact.

    Args:
        truth, guesses: (images, ...) of one shape.
        data_range: largest minus smallest possible pixel.
    """
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / mse(truth, guesses))


def ssim(truth: NDArray[np.float64], guesses: NDArray[np.float64], *, data_range: float = 1.0) -> NDArray[np.float64]:
    """Structural similarity of every image, averaged over pixels and channels: (images,), 1 where equal.

    Local moments under a Gaussian window of 1.5 pixels; at the border the image is reflected, so that images smaller
    than a window have a value, too.

    Args:
        truth, guesses: (images, ..., height, width) of one shape.
        data_range: largest minus smallest possible pixel.
    Source: Wang et al. 2004, sec. III-B and C.
    """
    if truth.shape != guesses.shape:
        msg = f"one guess an image, of its shape: got {truth.shape} and {guesses.shape}"
        raise ValueError(msg)
    x, y = truth.astype(np.float64), guesses.astype(np.float64)
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    mean: NDArray[np.float64] = similarity.reshape(len(x), -1).mean(axis=1)
    return mean


def match_images(truth: NDArray[np.float64], guesses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put guesses into the records' order, so that the total squared error is least: (records, ...).

    Args:
        truth: (records, ...).
        guesses: (guesses, ...), at least as many.
    """
    matched: NDArray[np.float64] = guesses[match(squared_distances(truth, guesses))]
    return matched


def _window(images: NDArray[np.float64]) -> NDArray[np.float64]:
    filtered: NDArray[np.float64] = gaussian_filter(images, SSIM_SIGMA, axes=(-2, -1))
    return filtered
