"""Runs GGUF models in this process, over llama.cpp."""
