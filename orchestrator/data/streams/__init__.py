"""Batches as people bring them: a dataset, a `PyDataset`, a generator."""
