"""Probes of the security checklist, one file a layer. Each has a test that turns it red."""
