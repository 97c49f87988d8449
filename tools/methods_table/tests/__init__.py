"""What tools/methods_table.py promises, without running diffpref."""
