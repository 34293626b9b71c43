"""Speed and scale: `make bench`, or python -m tests.bench --help. Not collected by pytest."""
