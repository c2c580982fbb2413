"""Files: our container, those of other tools, and folders of images."""
