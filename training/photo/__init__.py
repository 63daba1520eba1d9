"""The recipe of a starter for photographs, in the making: see README.md."""
