"""The word reader: pictures of handwritten words in, text out."""
