"""Measurements behind every claim of speed: ratios against a named peer or limit, side by side in one run."""
