"""What makes the vectors of a library searchable: read in place, in memory, or by an index."""
