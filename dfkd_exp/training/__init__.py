"""How any network is trained: teachers and students alike."""
