"""What runs at a hospital, with its rights: the only package that opens patient rows."""
