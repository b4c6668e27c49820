"""A real Flower deployment: a SuperLink, and a SuperNode with an executor per hospital."""
