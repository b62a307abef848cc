"""Time and memory of fit and transform."""
