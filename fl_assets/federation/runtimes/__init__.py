"""Where the same server and client apps run."""
