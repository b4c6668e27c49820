"""What the coordinator does between the sites; it opens no row of a real hospital."""
