"""The verification kit, shipped so that others can test their own stack with it.

- `secagg.testing.laws`: what any pair of client and server must do (needs the extra `testing`, for Hypothesis).
- `secagg.testing.fuzz`: mutated messages over every step of every protocol; `python -m secagg.testing.fuzz`.
- `secagg.testing.ideal`: privacy by enumeration, every view of every coalition.
- `secagg/testing/vectors`: test vectors with fixed randomness, and how to implement a client from them.

Nothing here is needed to run a round, and `import secagg` loads none of it.
"""
