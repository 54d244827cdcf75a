"""Real text for language models: corpora (stdlib, topics, files, TFDS), byte tokens, packing into rows, windows for evaluation.

Start with text.py. NumPy only; tensorflow_datasets is imported by tfds_text.py alone, and only when a corpus "tfds:..." is named.
"""
