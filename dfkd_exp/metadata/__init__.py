"""What a teacher leaves behind."""
