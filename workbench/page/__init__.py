"""The state of one page: settings, presets, link and code. No widget, no torch."""
