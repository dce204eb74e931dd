"""What a model owner publishes: a folder, on the Hugging Face Hub too, with its card."""
