"""Many conversations over one loaded model: what is evaluated when, and what stays in the cache."""
