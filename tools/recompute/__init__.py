"""The parts of tools/recompute.py: a second, independent reading of what `diffpref train` does."""
