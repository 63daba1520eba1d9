"""The colours of every picture: Okabe and Ito's colour-blind-safe set, and a few neutral tones.

Colour never speaks alone: a mark, a word or a line style says the same thing.
"""

PAGE = "#FFFFFF"
PANEL = "#F1F3F5"  # behind pictures that do not fill their cell
RULE = "#D5DADF"
INK = "#1B1F24"
MUTED = "#586069"  # 6:1 on PAGE

BLUE = "#0072B2"
GREEN = "#009E73"
VERMILION = "#D55E00"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"

GOOD, BAD = "#007A59", "#C24F00"  # darker green and vermilion: white or black text is legible on it
BOX = "#FFD500"
BOX_CASING = "#14181C"

# Tints that carry ink-coloured text.
TINT_TOP, TINT_REST = "#A9D2EE", "#DCE5EC"
TINT_GOOD, TINT_BAD = "#9ADBC6", "#F6C3A0"

SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
