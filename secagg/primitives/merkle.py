"""A hash tree over one leaf per position: 32 bytes commit to them all, and a short path shows that one is among them.

Leaves and inner nodes are hashed under different labels, and a leaf names its position, so that neither can pass for
the other. Positions up to the next power of two are filled with zero digests, which no leaf hashes to.

Security: binding under the collision resistance of SHA-256. Nothing is hidden.
Source: Merkle 1987; the separation of leaves and nodes as in RFC 6962, sec. 2.1.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from secagg import tags

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NODE_BYTES", "MerkleTree", "path_bytes", "root_of"]

NODE_BYTES = 32


class MerkleTree:
    """The whole tree, for whoever commits.

    Args:
        n: positions 0..n-1, >= 1.
        leaves: position -> content; a position without one has an empty content.

    Attributes:
        root: 32 bytes.
    """

    def __init__(self, n: int, leaves: Mapping[int, bytes]) -> None:
        level = [_leaf(position, leaves.get(position, b"")) for position in range(n)]
        level += [bytes(NODE_BYTES)] * ((1 << _depth(n)) - n)
        self._levels = [level]
        while len(level) > 1:
            level = [_node(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]
            self._levels.append(level)
        self.root = level[0]

    def path(self, position: int) -> bytes:
        """Return the siblings from a leaf up to the root, `path_bytes(n)` bytes."""
        return b"".join(level[(position >> height) ^ 1] for height, level in enumerate(self._levels[:-1]))


def root_of(n: int, position: int, leaf: bytes, path: bytes) -> bytes:
    """Compute the root that a leaf and its path lead to: the one committed to if the leaf is in the tree.

    Raises:
        ValueError: the path has not `path_bytes(n)` bytes.
    """
    if len(path) != path_bytes(n):
        msg = f"a path among {n} leaves has {path_bytes(n)} bytes, got {len(path)}"
        raise ValueError(msg)
    node = _leaf(position, leaf)
    for height in range(_depth(n)):
        sibling = path[NODE_BYTES * height : NODE_BYTES * (height + 1)]
        node = _node(sibling, node) if position >> height & 1 else _node(node, sibling)
    return node


def path_bytes(n: int) -> int:
    """Return the length of a path among n leaves."""
    return NODE_BYTES * _depth(n)


def _depth(n: int) -> int:
    return (n - 1).bit_length()


def _leaf(position: int, content: bytes) -> bytes:
    return hashlib.sha256(tags.MERKLE_LEAF + position.to_bytes(8, "little") + content).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(tags.MERKLE_NODE + left + right).digest()
