"""The book: notebooks run and checked, grids of runs, chapters, scoreboard, site, command line."""
