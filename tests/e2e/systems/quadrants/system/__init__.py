"""Points of a plane, told apart by the quadrant they are in."""
