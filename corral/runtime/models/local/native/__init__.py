"""llama.cpp behind a few typed calls; only ``params`` can be imported without loading it."""
