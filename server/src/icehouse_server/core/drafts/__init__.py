"""Collection files in the making: what inspectors give, and the time axis that a few dates suggest."""
