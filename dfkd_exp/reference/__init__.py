"""Pages of the documentation that are made of the code and of the result files, each written by `python -m`."""
