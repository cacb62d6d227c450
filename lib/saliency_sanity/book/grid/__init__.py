"""Many runs of a notebook: the grid file, its cells, estimate, failures, summary."""
