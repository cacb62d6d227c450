"""The chapter on randomizing the network."""
