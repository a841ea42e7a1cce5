"""A learning rate from the run itself: what was tried. See docs/controller.md."""
