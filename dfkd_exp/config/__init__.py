"""What a command says becomes one tree of typed settings, or an error in one line."""
