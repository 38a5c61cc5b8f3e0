"""Published operations that the package has no use for, so that cases of them can be computed."""
