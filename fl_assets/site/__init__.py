"""What runs at a hospital, with that hospital's rights: the only package that opens patient rows."""
