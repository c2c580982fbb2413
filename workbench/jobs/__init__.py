"""Long work beside the page, each job in a process of its own."""
