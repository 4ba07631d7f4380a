"""One function per command, which joins rooms that do not know each other."""
