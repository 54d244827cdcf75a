"""English prose that every machine already has: the language reference behind Python's `help()`, one document per topic.

79 topics, 460 to 510 kB by version, the longest about 60,000 bytes (help on "types"), split by the hash of the topic's name.
"""

from __future__ import annotations


def documents() -> dict[str, bytes]:
    """Topic -> text, sorted by topic. ValueError when this Python was installed without `pydoc_data`, or with an empty one."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError("this Python has no module pydoc_data.topics; choose another corpus, or a text file") from error
    if not topics:
        raise ValueError("pydoc_data.topics is empty in this Python; choose another corpus, or a text file")
    return {name: topics[name].encode() for name in sorted(topics)}
