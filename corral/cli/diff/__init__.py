"""`corral diff`: two runs side by side."""
