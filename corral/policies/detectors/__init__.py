"""Finding secrets and personal data in texts: each detector gives the spans of one kind."""
