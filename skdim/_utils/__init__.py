"""Helpers for the whole package, without torch and scikit-learn."""
