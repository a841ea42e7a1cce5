"""What an update costs on an accelerator, beside the copy that its memory makes; see README.md."""
