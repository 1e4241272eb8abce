"""What is remembered. Owned by agent/memory."""
