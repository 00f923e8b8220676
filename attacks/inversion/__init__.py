"""Recover inputs from what training on them changed. For measuring one's own systems, on data one already holds."""
