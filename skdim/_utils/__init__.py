"""Helpers for the whole package that import neither torch nor scikit-learn."""
