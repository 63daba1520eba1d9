"""How the shipped starter CLIP is made; start at ``training/starter_clip.py``."""
