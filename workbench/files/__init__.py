"""Files: our own container, other tools' formats, and folders of images."""
