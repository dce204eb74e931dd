"""What images are made of while they are optimised. A parametrisation is a file here and a yaml in ``conf/parametrisation/``."""
