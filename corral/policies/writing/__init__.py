"""What people who write policies use: reading files, explaining, checking and trying rules."""
