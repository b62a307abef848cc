"""Benchmarks: each script writes one file of results, which the documents show.

Run a script from the root of the repository, for example
``python -m benchmarks.tables.features --seeds=3``.  It writes
``benchmarks/results/tables/features.json``; ``python -m benchmarks.report`` then
writes the tables of the documents.
"""
