"""Controlled tasks: one mechanism each, small enough to train in seconds, with a control in which it is not needed."""
