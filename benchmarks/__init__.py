"""Speed, measured: `lcref bench`, or one file at a time with `python -m benchmarks.attention`."""
