"""The phases of a run, on either side of the wall."""
