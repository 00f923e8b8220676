"""How the `kernels.py` files compile: the only file that imports numba.

Loaded on first use of a kernel, never by `import secagg`. Kernels compile on first call, release the GIL, and are
cached beside the source or in the user's cache folder; where neither can be written, each process compiles anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["kernel"]

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function with numba on its first call."""
    compiled: Callable[P, R]
    try:
        compiled = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba finds no folder that it may write its cache to
        compiled = numba.njit(nogil=True)(function)
    return compiled
