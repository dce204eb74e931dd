"""Images to student."""
