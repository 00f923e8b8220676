"""From named float arrays to vectors of integers that can be summed without ever wrapping, and back."""

from secagg.encoding.counts import Counts
from secagg.encoding.fixed_point import Encoded, Encoding, WeightedSum
from secagg.encoding.layout import Layout

__all__ = ["Counts", "Encoded", "Encoding", "Layout", "WeightedSum"]
