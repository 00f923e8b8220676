"""Named arrays as one vector, and back.

Accepts a mapping of arrays (a torch `state_dict`, a dict of numpy arrays) or a sequence of arrays (Flower's
`list[ndarray]`). Names, shapes, dtypes and the rule for integer arrays are hashed into the round's parameters, so
that parties who flatten differently never sum by mistake. Torch is never imported unless its tensors are given.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np

from secagg import tags
from secagg.errors import EncodingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ArraySpec", "Arrays", "Layout"]

Arrays: TypeAlias = Mapping[str, Any] | Sequence[Any]
IntegerRule: TypeAlias = Literal["raise", "keep", "average"]
_DOUBLE_BITS = 53
_DOUBLE_BYTES = 8


class ArraySpec(msgspec.Struct, frozen=True, array_like=True):
    """One array of a layout.

    Attributes:
        name: its key, or its index as text.
        shape: its shape.
        dtype: its dtype's name ("float32", "bfloat16", "int64").
        summed: whether it is part of the vector.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    summed: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which arrays, in which order, make up a vector. Build one with `Layout.of`.

    Attributes:
        arrays: the arrays in order.
        container: "mapping" or "sequence"; what `unflatten` returns.
        tensors: whether the arrays are torch tensors.

    >>> import numpy as np
    >>> layout = Layout.of({"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(2, np.float32)})
    >>> layout.dimension
    8
    >>> layout.unflatten(np.arange(8.0))["bias"]
    array([6., 7.], dtype=float32)
    """

    arrays: tuple[ArraySpec, ...]
    container: Literal["mapping", "sequence"]
    tensors: bool

    @classmethod
    def of(cls, arrays: Arrays, *, integers: IntegerRule = "raise") -> Layout:
        """Describe named arrays.

        Args:
            arrays: mapping name -> array, or sequence of arrays; numpy or torch, not both.
            integers: what to do with integer and boolean arrays (batch-norm counters, say): "raise" refuses them,
                "keep" leaves them out of the sum (each party keeps its own), "average" sums them as floats and rounds
                the mean back.
        Raises:
            EncodingError: no such rule, nothing to sum, an integer array under "raise", a dtype that is neither float
                nor integer, or numpy and torch mixed.
        """
        if integers not in get_args(IntegerRule):
            msg = f"integers must be one of {', '.join(get_args(IntegerRule))}, got {integers!r}"
            raise EncodingError(msg)
        named = _named(arrays)
        kinds = {_is_tensor(array) for _, array in named}
        if len(kinds) > 1:
            msg = "numpy arrays and torch tensors cannot be mixed in one layout"
            raise EncodingError(msg)
        specs = tuple(_spec(name, array, integers) for name, array in named)
        if not any(spec.summed and spec.size for spec in specs):
            msg = "there is nothing to sum in these arrays"
            raise EncodingError(msg)
        container: Literal["mapping", "sequence"] = "mapping" if isinstance(arrays, Mapping) else "sequence"
        return cls(specs, container, kinds.pop())

    @property
    def dimension(self) -> int:
        """Coordinates of the vector."""
        return sum(spec.size for spec in self.arrays if spec.summed)

    @property
    def digest(self) -> bytes:
        """32-byte hash of names, shapes, dtypes, order and what is summed."""
        return hashlib.sha256(tags.LAYOUT + msgspec.msgpack.encode(self.arrays)).digest()

    def flatten(self, arrays: Arrays) -> NDArray[np.float64]:
        """Concatenate the summed arrays.

        Args:
            arrays: same names, shapes and dtypes as this layout's.
        Returns: (dimension,) float64.
        Raises:
            EncodingError: the arrays are not of this layout; says which one differs.
        """
        named = self._matching(arrays)
        out = np.empty(self.dimension, dtype=np.float64)
        at = 0
        for spec, array in named:
            if spec.summed:
                out[at : at + spec.size] = _as_floats(spec, array)
                at += spec.size
        return out

    def unflatten(self, vector: NDArray[Any], *, like: Arrays | None = None) -> Any:  # noqa: ANN401 -- mirrors the input
        """Cut a vector back into arrays.

        Args:
            vector: (dimension,) floats.
            like: arrays of this layout; needed if some are kept (integers="keep"): they are taken from here.
        Returns: a dict or list of fresh arrays with the layout's shapes and dtypes.
        Raises:
            EncodingError: a kept array is needed and `like` is missing, or a value does not fit an integer dtype.
            ValueError: wrong shape.
        """
        values = np.asarray(vector)
        if values.shape != (self.dimension,):
            msg = f"expected shape ({self.dimension},), got {values.shape}"
            raise ValueError(msg)
        kept = {spec.name: array for spec, array in self._matching(like) if not spec.summed} if like is not None else {}
        out: dict[str, Any] = {}
        at = 0
        for spec in self.arrays:
            if spec.summed:
                out[spec.name] = self._restore(spec, values[at : at + spec.size].reshape(spec.shape))
                at += spec.size
            elif spec.name in kept:
                out[spec.name] = kept[spec.name].clone() if self.tensors else kept[spec.name].copy()
            else:
                msg = f"array {spec.name!r} is kept, not summed: pass like= to say what it is kept from"
                raise EncodingError(msg)
        return out if self.container == "mapping" else list(out.values())

    def _restore(self, spec: ArraySpec, values: NDArray[Any]) -> Any:  # noqa: ANN401
        if _is_integer(spec.dtype):
            values = _rounded(spec, values)
        if self.tensors:
            import torch  # noqa: PLC0415 -- only where torch tensors came in

            restored: Any = torch.tensor(values, dtype=getattr(torch, spec.dtype))
            finite = bool(torch.isfinite(restored).all())
        else:
            with np.errstate(over="ignore"):  # reported below
                restored = values.astype(spec.dtype)
            finite = bool(np.isfinite(restored).all())
        if not finite:
            msg = f"a value of array {spec.name!r} does not fit {spec.dtype}"
            raise EncodingError(msg)
        return restored

    def _matching(self, arrays: Arrays) -> list[tuple[ArraySpec, Any]]:
        named = _named(arrays)
        if [name for name, _ in named] != [spec.name for spec in self.arrays]:
            msg = "these arrays have other names, or another order, than the layout"
            raise EncodingError(msg)
        for spec, (name, array) in zip(self.arrays, named, strict=True):
            if (tuple(array.shape), _dtype_name(array), _is_tensor(array)) != (spec.shape, spec.dtype, self.tensors):
                msg = f"array {name!r} is {_dtype_name(array)}{tuple(array.shape)}, expected {spec.dtype}{spec.shape}"
                raise EncodingError(msg)
        return [(spec, array) for spec, (_, array) in zip(self.arrays, named, strict=True)]


def _named(arrays: Arrays) -> list[tuple[str, Any]]:
    items = list(arrays.items()) if isinstance(arrays, Mapping) else [(str(i), a) for i, a in enumerate(arrays)]
    for name, array in items:
        if not (isinstance(array, np.ndarray) or _is_tensor(array)):
            msg = f"array {name!r} is a {type(array).__name__}, expected a numpy array or a torch tensor"
            raise EncodingError(msg)
    if not items:
        msg = "there are no arrays"
        raise EncodingError(msg)
    return items


def _spec(name: str, array: Any, integers: IntegerRule) -> ArraySpec:  # noqa: ANN401
    dtype = _dtype_name(array)
    summed = True
    if _is_integer(dtype):
        if integers == "raise":
            msg = f"array {name!r} holds {dtype}: choose integers='keep' (not summed) or 'average' (rounded mean)"
            raise EncodingError(msg)
        summed = integers == "average"
    elif "float" not in dtype or (isinstance(array, np.ndarray) and array.itemsize > _DOUBLE_BYTES):
        msg = f"array {name!r} holds {dtype}, which cannot be summed as real numbers of double precision"
        raise EncodingError(msg)
    return ArraySpec(name, tuple(array.shape), dtype, summed)


def _is_tensor(array: object) -> bool:
    return type(array).__module__.split(".")[0] == "torch"


def _dtype_name(array: Any) -> str:  # noqa: ANN401
    return array.dtype.name if isinstance(array, np.ndarray) else str(array.dtype).removeprefix("torch.")


def _is_integer(dtype: str) -> bool:
    return dtype.startswith(("int", "uint", "bool"))


def _as_floats(spec: ArraySpec, array: Any) -> NDArray[np.float64]:  # noqa: ANN401
    values = array if isinstance(array, np.ndarray) else array.detach().cpu()
    if _is_integer(spec.dtype) and spec.dtype != "bool" and spec.size:
        largest = max(int(values.max()), -int(values.min()))
        if largest > 1 << _DOUBLE_BITS:
            msg = f"array {spec.name!r} holds integers beyond 2^{_DOUBLE_BITS}, which doubles cannot hold exactly"
            raise EncodingError(msg)
    doubles = values.astype(np.float64) if isinstance(values, np.ndarray) else values.double().numpy()
    flat: NDArray[np.float64] = doubles.reshape(-1)
    return flat


def _rounded(spec: ArraySpec, values: NDArray[Any]) -> NDArray[Any]:
    if spec.dtype == "bool":
        majority: NDArray[Any] = values >= 0.5  # noqa: PLR2004
        return majority
    whole: NDArray[Any] = np.rint(values)
    limits = np.iinfo(spec.dtype)
    if whole.size and not (
        np.isfinite(whole).all() and limits.min <= int(whole.min()) and int(whole.max()) <= limits.max
    ):
        msg = f"the mean of array {spec.name!r} does not fit {spec.dtype}"
        raise EncodingError(msg)
    return whole
