"""The API's services: one class each, one method a call."""
