"""What was spent and what may be: shared accounts, prices, settings and reports."""
