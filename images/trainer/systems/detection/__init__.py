"""Objects in boxes: pictures in which each object of a few classes is found, named and framed."""
