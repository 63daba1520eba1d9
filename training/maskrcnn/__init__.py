"""How the starter Mask R-CNN is made: ``python -m training.maskrcnn all --help``."""
