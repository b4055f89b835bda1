"""The errors that lsm_ros raises on purpose; every message names the value that is wrong."""


class LsmError(Exception):
    """Base of all of them. The node catches this one: it drops the window and shows the count in the diagnostics."""


class ConfigError(LsmError):
    """An unknown key, or a value outside its range, in a configuration."""


class InputError(LsmError):
    """A frame, a recording, a folder or a camera that cannot be used."""


class WeightsError(LsmError):
    """A weights file that is missing, damaged or of another network."""


class AlignmentError(LsmError):
    """Points or poses that do not determine the transform that was asked for."""


class OutputError(LsmError):
    """A result that could not be written."""


class TransformError(LsmError):
    """A transform between two frames that TF does not tell."""


class TooEarlyError(TransformError):
    """A moment that is not told yet; `behind_s` seconds are missing, and may come."""

    def __init__(self, text: str, behind_s: float):
        super().__init__(text)
        self.behind_s = behind_s
