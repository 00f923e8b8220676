"""Sums under homomorphic encryption: the server adds ciphertexts that it cannot open.

`ckks.py` is TenSEAL's CKKS under one key that all clients share: for interoperability, and as the baseline.
"""
