"""The masking rounds, with an RLWE expansion of a short secret in place of the long masks."""
