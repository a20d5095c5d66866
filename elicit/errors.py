"""Errors that a user can act on: each names what is wrong, where, and the remedy."""


class ElicitError(Exception):
    """Base of every error that the command line prints without a traceback."""


class DomainError(ElicitError):
    """A domain's file, rows, labels or question cannot be used; the message names the domain and the row."""


class ArtefactError(ElicitError):
    """A packaged model or data set could not be fetched, verified or read."""


class ModelError(ElicitError):
    """A language model cannot be loaded, or cannot answer with the two verdict words."""


class PromptError(ModelError):
    """A model cannot answer a prompt: no verdict in one token, no room for the text. Ends the method that asks, and not a run."""


class DivergedError(ModelError):
    """A training failed before there was anything to keep."""


class RunError(ElicitError):
    """A run folder cannot be used, continued or written."""
