"""Terms of the objective beside the match with the metadata. A term is a file here and a yaml in ``conf/terms/``."""
