"""The site: staging, generated pages, Sphinx, and what the pages weigh."""
