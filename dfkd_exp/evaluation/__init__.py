"""Accuracy and agreement."""
