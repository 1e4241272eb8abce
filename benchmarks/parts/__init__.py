"""What the benchmarks are made of: a light load generator, the vendor's side, a bare route to compare with."""
