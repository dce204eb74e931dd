"""Networks, by name or by import path, and the recording of their activations."""
