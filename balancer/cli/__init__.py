"""The command line: one verb a file; printing and exit codes only."""
