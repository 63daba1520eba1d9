"""A model or a library in the shape that other libraries expect, a module for each.

All of them call :meth:`wordsight.models.clip.ClipModel.encode` or :class:`wordsight.Library`;
none computes anything. A module imports the library that it is for, which you install yourself.
"""
