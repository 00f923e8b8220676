"""Named arrays as one vector and back: numpy and torch, dicts and lists, integers by rule."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secagg import EncodingError, Layout

shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@given(
    st.lists(st.tuples(shapes, st.sampled_from(["float16", "float32", "float64"])), min_size=1, max_size=5),
    st.booleans(),
)
def test_unflatten_inverts_flatten(specs: list[tuple[tuple[int, ...], str]], named: bool) -> None:
    arrays: Any = [np.arange(np.prod(shape, dtype=int), dtype=dtype).reshape(shape) for shape, dtype in specs]
    if not sum(array.size for array in arrays):
        with pytest.raises(EncodingError, match="nothing to sum"):
            Layout.of(arrays)
        return
    if named:
        arrays = {f"layer{i}": array for i, array in enumerate(arrays)}
    layout = Layout.of(arrays)
    back = layout.unflatten(layout.flatten(arrays))
    pairs = [(arrays[k], back[k]) for k in (arrays if named else range(len(arrays)))]
    assert type(back) is type(arrays)
    assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def test_a_torch_state_dict_round_trips_with_its_dtypes() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)).to(torch.bfloat16)
    layout = Layout.of(model.state_dict())
    back = layout.unflatten(layout.flatten(model.state_dict()))
    model.load_state_dict(back)
    assert layout.dimension == sum(p.numel() for p in model.parameters())
    assert all(tensor.dtype == torch.bfloat16 for tensor in back.values())


def test_integer_buffers_need_a_rule() -> None:
    state = torch.nn.BatchNorm1d(3).state_dict()
    with pytest.raises(EncodingError, match="num_batches_tracked"):
        Layout.of(state)


def test_kept_buffers_stay_out_of_the_vector_and_come_from_like() -> None:
    state = torch.nn.BatchNorm1d(3).state_dict()
    state["num_batches_tracked"] += 5
    layout = Layout.of(state, integers="keep")
    assert layout.dimension == 12
    vector = layout.flatten(state)
    with pytest.raises(EncodingError, match="like="):
        layout.unflatten(vector)
    back = layout.unflatten(vector, like=state)
    assert back["num_batches_tracked"] == 5
    back["num_batches_tracked"] += 1
    assert state["num_batches_tracked"] == 5


def test_averaged_integers_are_rounded_back() -> None:
    arrays = {"n": np.array([1, 2], dtype=np.int32), "flag": np.array([True, False])}
    layout = Layout.of(arrays, integers="average")
    back = layout.unflatten(np.array([1.6, -2.4, 0.7, 0.2]))
    assert back["n"].tolist() == [2, -2]
    assert back["n"].dtype == np.int32
    assert back["flag"].tolist() == [True, False]
    with pytest.raises(EncodingError, match="does not fit"):
        layout.unflatten(np.array([1e12, 0, 0, 0]))


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({}, "no arrays"),
        ([], "no arrays"),
        ({"z": np.zeros(2, complex)}, "real numbers"),
        ({"z": np.array(["a"])}, "real numbers"),
        ({"z": [1.0, 2.0]}, "expected a numpy array"),
        ({"a": np.zeros(2), "b": torch.zeros(2)}, "mixed"),
    ],
)
def test_what_cannot_be_summed_is_refused(arrays: Any, match: str) -> None:
    with pytest.raises(EncodingError, match=match):
        Layout.of(arrays)


@pytest.mark.parametrize(
    "other",
    [
        {"w": np.zeros((2, 3), np.float32), "c": np.zeros(2, np.float32)},
        {"b": np.zeros(2, np.float32), "w": np.zeros((2, 3), np.float32)},
        {"w": np.zeros((3, 2), np.float32), "b": np.zeros(2, np.float32)},
        {"w": np.zeros((2, 3), np.float64), "b": np.zeros(2, np.float32)},
        {"w": torch.zeros(2, 3), "b": torch.zeros(2)},
        {"w": np.zeros((2, 3), np.float32)},
    ],
)
def test_arrays_of_another_layout_are_refused_and_hash_differently(other: Any) -> None:
    layout = Layout.of({"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32)})
    with pytest.raises(EncodingError):
        layout.flatten(other)
    if not isinstance(other["w"], torch.Tensor):  # torch and numpy arrays of one shape and dtype sum alike
        assert Layout.of(other).digest != layout.digest


def test_the_integer_rule_is_part_of_the_digest() -> None:
    arrays = {"n": np.zeros(2, np.int64), "x": np.zeros(2)}
    assert Layout.of(arrays, integers="keep").digest != Layout.of(arrays, integers="average").digest


def test_a_vector_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        Layout.of([np.zeros(3)]).unflatten(np.zeros(4))


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float16", 7e4),
        ("float32", 1e39),
        ("float16", np.nan),
        ("int64", 2.0**63),
        ("int64", -(2.0**63) - 2048),
        ("uint8", -1.0),
        ("uint8", 256.0),
        ("int32", np.nan),
        ("int32", np.inf),
    ],
)
def test_a_mean_that_does_not_fit_its_dtype_is_refused(tensors: bool, dtype: str, value: float) -> None:
    array: Any = torch.zeros(2, dtype=getattr(torch, dtype)) if tensors else np.zeros(2, dtype)
    layout = Layout.of({"x": array}, integers="average")
    with pytest.raises(EncodingError, match="'x' does not fit"):
        layout.unflatten(np.array([0.0, value]))


@pytest.mark.parametrize("tensors", [False, True])
def test_the_widest_integers_that_doubles_hold_round_trip_and_wider_ones_are_refused(tensors: bool) -> None:
    numbers = np.array([1 << 53, -(1 << 53), 0])
    array: Any = torch.from_numpy(numbers) if tensors else numbers
    layout = Layout.of([array], integers="average")
    assert layout.unflatten(layout.flatten([array]))[0].tolist() == numbers.tolist()
    with pytest.raises(EncodingError, match=r"beyond 2\^53"):
        layout.flatten([array + 1])


def test_floats_wider_than_double_and_unknown_rules_are_refused() -> None:
    if np.dtype(np.longdouble).itemsize > 8:  # where the platform has any
        with pytest.raises(EncodingError, match="double precision"):
            Layout.of([np.zeros(2, np.longdouble)])
    with pytest.raises(EncodingError, match="raise, keep, average"):
        Layout.of([np.zeros(2)], integers="drop")  # type: ignore[arg-type]
