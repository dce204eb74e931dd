"""How fast images are made: what is chosen, how it is measured, and the rewrites that make it so."""
