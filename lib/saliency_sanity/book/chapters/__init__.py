"""What each page computes and says, and its claims."""
