"""The chapter on what a map owes to the input it is multiplied by."""
