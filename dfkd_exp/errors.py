"""The exceptions that are shown to a person without a traceback."""


class DfkdError(Exception):
    """Something the user can mend. The message is one line: what is wrong, with the value; where; what to do."""


class Pruned(Exception):
    """A trial of a search that was ended because others were better at the same point. Not an error."""


class ConfigError(DfkdError):
    """A setting that cannot be: known before anything is computed."""
