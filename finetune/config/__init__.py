"""The settings of a run: every knob, how it is read, and the problems of a config as sentences."""
