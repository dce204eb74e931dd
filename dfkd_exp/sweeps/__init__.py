"""What stands around the jobs of a sweep."""
