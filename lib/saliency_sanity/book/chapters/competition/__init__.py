"""The chapter on competition for pixels."""
