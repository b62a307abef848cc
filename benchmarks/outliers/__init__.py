"""Outlier detectors on tables and on images."""
