"""Digits: pictures of single handwritten digits, told apart."""
