"""The math: pure functions on arrays, one idea per file. Read these to learn the methods."""
