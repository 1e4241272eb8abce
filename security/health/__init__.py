"""Health tests: real probes of everything that can break, each with a verdict, its remedy, and a fix where safe."""
