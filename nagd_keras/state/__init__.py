"""What an optimizer keeps: numbers, slots, the two points; and how that is saved and loaded."""
