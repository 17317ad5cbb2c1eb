"""Files in and out of a sandbox, which stay beneath the grant whatever the other side does."""
