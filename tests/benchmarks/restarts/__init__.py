"""What restarts cost and reach, on networks that fail and on some that do not."""
