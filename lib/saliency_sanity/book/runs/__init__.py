"""One notebook run: parameters, cases, profiles, the runner, what the copy says of itself."""
