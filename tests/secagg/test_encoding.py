"""Fixed-point encoding: never wraps, never loses anything in silence, unbiased."""

import math
import os
import subprocess
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secagg import Counts, Encoding, EncodingError, tags
from secagg.encoding import fixed_point
from secagg.encoding.packing import Words, reduce
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import keystream
from secagg.primitives.threads import in_slices

SEED = bytes(range(32))


def add(vectors: list[Words], bits: int) -> Words:
    total: Words = np.add.reduce([vector.astype(np.uint64) for vector in vectors]).astype(vectors[0].dtype)
    reduce(total, bits)
    return total


codecs = st.builds(
    Encoding,
    dimension=st.integers(1, 40),
    clip=st.sampled_from([1e-6, 0.1, 1.0, 3.7, 1e4]),
    bits=st.integers(2, 32),
    clients=st.integers(1, 50),
    max_weight=st.integers(1, 1_000),
)


@given(codecs, st.data())
def test_the_decoded_sum_is_the_weighted_sum_of_clipped_updates_within_one_step_a_client(
    codec: Encoding, data: st.DataObject
) -> None:
    clients = data.draw(st.integers(1, codec.clients))
    floats = st.floats(-2 * codec.clip, 2 * codec.clip, width=64)
    updates = [
        np.array(data.draw(st.lists(floats, min_size=codec.dimension, max_size=codec.dimension)))
        for _ in range(min(clients, 4))
    ]
    weights = [data.draw(st.integers(0, codec.max_weight)) for _ in updates]
    encoded = [codec.encode(x, weight=w) for x, w in zip(updates, weights, strict=True)]
    assert [e.clipped for e in encoded] == [int((np.abs(x) > codec.clip).sum()) for x in updates]
    result = codec.decode_sum(add([e.vector for e in encoded], codec.modulus_bits))
    assert result.weight == sum(weights)
    exact = sum(w * np.clip(x, -codec.clip, codec.clip) for x, w in zip(updates, weights, strict=True))
    step = codec.clip / ((1 << (codec.bits - 1)) - 1) * codec.max_weight
    assert np.abs(result.values - exact).max() <= len(updates) * step * (1 + 1e-9)


@given(codecs, st.sampled_from([-1.0, 1.0]))
def test_the_largest_sum_of_all_clients_does_not_wrap(codec: Encoding, sign: float) -> None:
    extreme = np.full(codec.dimension, sign * codec.clip * 10)
    one = codec.encode(extreme, weight=codec.max_weight).vector
    # n equal vectors, added in the ring: exact n-fold integer, then reduced as the server reduces.
    total: Words = np.array([int(v) * codec.clients % (1 << codec.modulus_bits) for v in one], dtype=one.dtype)
    result = codec.decode_sum(total)
    assert result.weight == codec.clients * codec.max_weight
    assert np.allclose(result.values, sign * codec.clip * codec.max_weight * codec.clients, rtol=1e-12)


@given(st.integers(2, 32), st.integers(1, 1 << 20), st.integers(1, 1 << 20))
def test_the_modulus_is_the_smallest_that_holds_every_sum(bits: int, clients: int, max_weight: int) -> None:
    codec = Encoding(dimension=1, clip=1.0, bits=bits, clients=clients, max_weight=max_weight)
    steps = (1 << (bits - 1)) - 1
    holds = [b for b in range(1, 65) if 2 * clients * steps + 1 <= 1 << b and clients * max_weight + 1 <= 1 << b]
    assert codec.modulus_bits == holds[0]


def test_an_encoding_that_could_wrap_cannot_be_constructed() -> None:
    with pytest.raises(EncodingError, match="never wrap"):
        Encoding(dimension=1, clip=1.0, bits=32, clients=1 << 33)
    with pytest.raises(EncodingError, match="never wrap"):
        Encoding(dimension=1, clip=1.0, bits=8, clients=1 << 10, max_weight=1 << 60)
    with pytest.raises(EncodingError, match="never wrap"):
        Counts(dimension=1, maximum=1 << 60, clients=1 << 10)


@pytest.mark.parametrize(
    "change",
    [
        {"dimension": 0},
        {"dimension": 1.5},
        {"dimension": True},
        {"clients": 0},
        {"bits": 1},
        {"bits": 33},
        {"max_weight": 0},
        {"clip": 0.0},
        {"clip": -1.0},
        {"clip": math.inf},
        {"clip": math.nan},
        {"clip": 5e-324, "bits": 32},
        {"clip": "1"},
    ],
)
def test_parameters_out_of_range_are_refused(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"dimension": 3, "clip": 1.0, "bits": 8, "clients": 4}
    with pytest.raises(EncodingError):
        Encoding(**(good | change))


@pytest.mark.parametrize("change", [{"dimension": 0}, {"maximum": 0}, {"clients": True}, {"maximum": 1.0}])
def test_count_parameters_out_of_range_are_refused(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"dimension": 3, "maximum": 5, "clients": 4}
    with pytest.raises(EncodingError):
        Counts(**(good | change))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_are_refused_and_counted(bad: float, dtype: type) -> None:
    codec = Encoding(dimension=5, clip=1.0, bits=8, clients=2)
    with pytest.raises(EncodingError, match="1 of 5 coordinates"):
        codec.encode(np.array([0, 0, bad, 0, 0], dtype=dtype))


@pytest.mark.parametrize(
    ("update", "error"),
    [
        (np.zeros(4), ValueError),
        (np.zeros((3, 1)), ValueError),
        (np.zeros(3, dtype=np.int64), TypeError),
        (np.zeros(3, dtype=np.float16), TypeError),
        (np.zeros(3, dtype=complex), TypeError),
        ([0, 0, 0], TypeError),
        ("abc", TypeError),
    ],
)
def test_wrong_shapes_and_dtypes_are_refused(update: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Encoding(dimension=3, clip=1.0, bits=8, clients=2).encode(update)


@pytest.mark.parametrize(
    ("weight", "error"),
    [(-1, EncodingError), (11, EncodingError), (None, EncodingError), (1.0, TypeError), (True, TypeError)],
)
def test_weights_out_of_range_are_refused(weight: Any, error: type[Exception]) -> None:
    codec = Encoding(dimension=3, clip=1.0, bits=8, clients=2, max_weight=10)
    with pytest.raises(error):
        codec.encode(np.zeros(3), weight=weight)


def test_a_mean_of_weight_zero_is_refused() -> None:
    codec = Encoding(dimension=2, clip=1.0, bits=8, clients=2, max_weight=10)
    with pytest.raises(EncodingError, match="zero"):
        codec.decode(codec.encode(np.ones(2), weight=0).vector)


@given(st.floats(-1, 1), st.integers(2, 12))
def test_rounding_is_unbiased(value: float, bits: int) -> None:
    draws = 20_000
    codec = Encoding(dimension=draws, clip=1.0, bits=bits, clients=1)
    decoded = codec.decode(codec.encode(np.full(draws, value), random=SEED).vector)
    steps = (1 << (bits - 1)) - 1
    fraction = Fraction(value) * steps - math.floor(Fraction(value) * steps)
    deviation = math.sqrt(float(fraction * (1 - fraction)) / draws) / steps
    assert abs(decoded.mean() - value) <= 5.5 * deviation + 1e-12
    assert set(np.rint(decoded * steps).astype(int)) <= {math.floor(value * steps), math.ceil(value * steps)}


def test_representable_values_are_kept_exactly() -> None:
    codec = Encoding(dimension=15, clip=7.0, bits=4, clients=3)
    values = np.arange(-7.0, 8.0)
    assert np.array_equal(codec.decode(codec.encode(values).vector), values)


@given(st.floats(0.01, 1e6), st.integers(2, 32), st.sampled_from([np.float32, np.float64]))
def test_the_clip_bound_itself_is_not_counted_as_clipped(clip: float, bits: int, dtype: type) -> None:
    clip = float(dtype(clip))
    codec = Encoding(dimension=2, clip=clip, bits=bits, clients=1)
    encoded = codec.encode(np.array([clip, -clip], dtype=dtype))
    assert encoded.clipped == 0
    assert np.allclose(codec.decode(encoded.vector), [clip, -clip], rtol=1e-12)


def test_rounding_depends_on_its_randomness_only() -> None:
    codec = Encoding(dimension=100_000, clip=1.0, bits=3, clients=1)
    update = np.full(100_000, 0.123)
    first, again = (codec.encode(update, random=SEED).vector for _ in range(2))
    other, fresh, afresh = (
        codec.encode(update, random=bytes(32)).vector,
        codec.encode(update).vector,
        codec.encode(update).vector,
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(fresh, afresh)


def test_strided_and_foreign_endian_arrays_encode_like_plain_ones() -> None:
    codec = Encoding(dimension=50, clip=1.0, bits=16, clients=1)
    values = np.linspace(-1, 1, 100)
    plain = codec.encode(values[::2].copy(), random=SEED).vector
    assert np.array_equal(codec.encode(values[::2], random=SEED).vector, plain)
    assert np.array_equal(codec.encode(values[::2].astype(">f8"), random=SEED).vector, plain)


def test_digests_tell_encodings_apart() -> None:
    base: dict[str, Any] = {"dimension": 3, "clip": 1.0, "bits": 8, "clients": 4, "max_weight": 2, "layout": b"x"}
    changes: list[dict[str, Any]] = [
        {},
        {"dimension": 4},
        {"clip": 1.5},
        {"bits": 9},
        {"clients": 5},
        {"max_weight": 3},
        {"layout": b"y"},
    ]
    assert len({Encoding(**(base | change)).digest for change in changes}) == len(changes)


def test_an_encoded_vector_does_not_show_itself() -> None:
    codec = Encoding(dimension=1, clip=1.0, bits=16, clients=1)
    encoded = codec.encode(np.array([0.5]), random=SEED)
    assert str(int(encoded.vector[0])) not in repr(encoded)


@pytest.mark.parametrize(
    "bad", [np.zeros(3, np.uint32), np.zeros(4, np.int64), np.full(4, 1 << 20, np.uint32), [0, 0, 0, 0]]
)
def test_decoding_what_is_not_a_total_is_refused(bad: Any) -> None:
    codec = Encoding(dimension=3, clip=1.0, bits=8, clients=4)
    with pytest.raises((TypeError, ValueError, AttributeError)):
        codec.decode(bad)


@given(st.integers(1, 30), st.integers(1, 1 << 30), st.integers(1, 60), st.data())
def test_counts_sum_exactly(dimension: int, maximum: int, clients: int, data: st.DataObject) -> None:
    codec = Counts(dimension=dimension, maximum=maximum, clients=clients)
    rows = [
        np.array(data.draw(st.lists(st.integers(0, maximum), min_size=dimension, max_size=dimension)))
        for _ in range(min(clients, 3))
    ]
    total = add([codec.encode(row).vector for row in rows], codec.modulus_bits)
    assert codec.decode(total).tolist() == np.sum(rows, axis=0).tolist()
    full = codec.encode(np.full(dimension, maximum)).vector
    everything: Words = np.array([int(v) * clients % (1 << codec.modulus_bits) for v in full], dtype=full.dtype)
    assert codec.decode(everything).tolist() == [maximum * clients] * dimension


@pytest.mark.parametrize(
    ("counts", "error"),
    [
        (np.array([0, 11]), EncodingError),
        (np.array([0, -1]), EncodingError),
        (np.array([0.0, 1.0]), TypeError),
        (np.array([0]), ValueError),
    ],
)
def test_counts_out_of_range_are_refused(counts: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Counts(dimension=2, maximum=10, clients=2).encode(counts)


@given(st.integers(1, 5))
def test_encoding_of_long_vectors_crosses_chunks_cleanly(parts: int) -> None:
    assume(parts)
    dimension = parts * 40_000 + 7
    codec = Encoding(dimension=dimension, clip=1.0, bits=24, clients=1)
    values = np.linspace(-1, 1, dimension)
    assert np.abs(codec.decode(codec.encode(values).vector) - values).max() < 2**-22


@pytest.mark.parametrize("threads", [1, 3])
def test_every_coordinate_of_a_long_vector_is_rounded_by_bits_of_its_own(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixed_point, "in_slices", partial(in_slices, threads=threads))
    dimension = 5 * fixed_point._CHUNK + 7
    codec = Encoding(dimension=dimension, clip=1.0, bits=2, clients=1)
    update = np.full(dimension, 0.25)
    stream = keystream(derive_key(SEED, tags.STOCHASTIC_ROUNDING), 8 * dimension).view("<u8")
    assert np.array_equal(codec.encode(update, random=SEED).vector[:-1], stream < np.uint64(1 << 62))
    update[:: fixed_point._CHUNK] = math.nan
    with pytest.raises(EncodingError, match=f"6 of {dimension} coordinates"):
        codec.encode(update)


TINY = [1e-17, 1e-18, 1e-20, 1e-30, 5e-324, 2**-53, 2**-54]
"""Values whose distance to the step below them rounds to a whole step in double precision."""


@pytest.mark.parametrize("value", [sign * tiny for tiny in TINY for sign in (1.0, -1.0)])
def test_values_next_to_a_step_round_to_that_step(value: float) -> None:
    codec = Encoding(dimension=1_000, clip=1.0, bits=8, clients=1)
    decoded = codec.decode(codec.encode(np.full(1_000, value), random=SEED).vector)
    assert not decoded.any()  # one step up or down has odds of 2^-45 at most


def test_rounding_is_the_same_compiled_for_any_cpu(tmp_path: Path) -> None:
    # numba compiles for the host by default; a plain build must not convert floats to integers differently.
    code = (
        "import numpy as np; from secagg import Encoding;"
        "codec = Encoding(dimension=2_000, clip=1.0, bits=20, clients=3, max_weight=7);"
        "x = np.concatenate([np.random.default_rng(0).normal(0, 0.5, 600),"
        f" {[sign * tiny for tiny in TINY for sign in (1.0, -1.0)]!r} * 100]);"
        "print(codec.encode(x, weight=7, random=bytes(32)).vector.tolist())"
    )
    outputs = []
    for cpu in ("generic", "host"):
        settings = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""} if cpu == "generic" else {}
        environment = os.environ | settings | {"NUMBA_CACHE_DIR": str(tmp_path / cpu)}
        result = subprocess.run(  # noqa: S603 -- our own code
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        outputs.append(result.stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 2_000
