"""The speed: the signatures of lcref.ops, fast implementations inside."""
