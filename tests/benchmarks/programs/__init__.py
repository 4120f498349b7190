"""Small programs as people ask about them, each beside the one that they would be told to write.

`python -m tests.benchmarks.programs` takes each through a whole run.
"""
