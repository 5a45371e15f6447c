"""The settings of a run: every knob, how it is read, and what is wrong with it in words."""
