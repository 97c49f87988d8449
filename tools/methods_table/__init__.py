"""The parts of tools/methods_table.py."""
