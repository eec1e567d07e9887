"""IJB-B and IJB-C: 1:1 verification of templates, 1:N search."""
