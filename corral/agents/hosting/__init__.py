"""Runs that outlive whoever asked for them: started, watched and cancelled by handle."""
