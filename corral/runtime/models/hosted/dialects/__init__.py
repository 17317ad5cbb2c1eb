"""What each provider's protocol is told, from one request in our words."""
