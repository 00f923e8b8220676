"""What a sum gives away that nobody tampered with: to a server that only looks, round after round.

For measuring one's own systems: these attacks run on data their user already holds.
"""
