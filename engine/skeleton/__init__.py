"""Joint layouts, conversions between them, and the type that carries a recorded performance."""
