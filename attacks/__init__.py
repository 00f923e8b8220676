"""What an adversary can learn from what it sees: run against plain sums, where attacks win, and against ours.

For measuring one's own systems: attacks here run on data their user already holds.
"""

from attacks.threat import Channel, View

__all__ = ["Channel", "View"]
