"""What every other part of the package may import: no torch, no scikit-learn."""
