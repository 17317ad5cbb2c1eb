"""GGUF files on disk: their headers, where they are found, and what they take in memory."""
