"""What statistics of the library do where the truth is known."""
