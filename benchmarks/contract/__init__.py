"""The contract of scikit-learn, and random data and parameters."""
