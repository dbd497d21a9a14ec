"""What happens beside the steps of a run: everything periodic or observational."""
