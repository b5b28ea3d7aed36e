"""Worked examples on real data, each with its picture: `python -m examples.gallery.digits` from the repository's root."""
