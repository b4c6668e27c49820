"""Preflight: what has to be right, at the place where it is run, before anything else can be."""
