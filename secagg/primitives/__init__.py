"""One primitive a file. Secrets come from the caller's fresh 32 bytes or from a KDF, never from numpy or torch."""
