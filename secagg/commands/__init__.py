"""Commands of the `secagg` console script, one a file; each is an entry point in the group `secagg.commands`."""
