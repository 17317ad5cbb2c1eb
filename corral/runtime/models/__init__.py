"""Models behind one small contract: local, hosted and scripted."""
