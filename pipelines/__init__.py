"""The pipelines, one module each, named as on the command line; `settings` and `cli` are what they share."""


class UserError(Exception):
    """A mistake of the person who called: the message says what is wrong, where, and what to do."""
