"""The one exception whose message is meant for the user: found, expected, what to type."""


class UserError(ValueError):
    """Wrong input of a user. The command line prints its message alone, without a traceback."""
