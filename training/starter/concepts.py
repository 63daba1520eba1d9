"""What the starter model is shown: classes, the words used with pictures, and words kept back.

``UNSEEN`` are words that no picture is ever shown with; neither are their near variants. They
measure what the model makes of a word that it knows from text alone.
"""

from __future__ import annotations

CIFAR = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

# Words used with the pictures of a class in training. The first one is its name.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "airplane": (
        "airplane", "plane", "aeroplane", "aircraft", "passenger plane", "propeller plane",
        "flying machine", "cargo plane",
    ),
    "automobile": (
        "automobile", "car", "motorcar", "auto", "sedan", "passenger car", "hatchback",
        "convertible",
    ),
    "bird": (
        "bird", "songbird", "sparrow", "wild bird", "finch", "fowl", "wading bird", "bird of prey",
    ),
    "cat": (
        "cat", "kitty", "house cat", "domestic cat", "feline", "kitten", "pet cat", "furry cat",
    ),
    "deer": (
        "deer", "doe", "cervid", "red deer", "fallow deer", "wild deer", "deer with antlers",
        "buck",
    ),
    "dog": (
        "dog", "puppy", "hound", "canine", "domestic dog", "terrier", "doggy", "pet dog",
    ),
    "frog": (
        "frog", "tree frog", "green frog", "pond frog", "wood frog", "amphibian", "grass frog",
        "anuran",
    ),
    "horse": (
        "horse", "pony", "equine", "mare", "riding horse", "wild horse", "workhorse",
        "horse and rider",
    ),
    "ship": (
        "ship", "boat", "vessel", "watercraft", "cargo ship", "sailing ship", "motorboat",
        "merchant ship",
    ),
    "truck": (
        "truck", "motortruck", "delivery truck", "dump truck", "trailer truck", "heavy truck",
        "flatbed truck", "big rig",
    ),
}  # fmt: skip

UNSEEN: dict[str, tuple[str, ...]] = {
    "airplane": (
        "airliner", "biplane", "jet fighter", "seaplane", "bomber", "jumbo jet", "monoplane",
        "glider",
    ),
    "automobile": (
        "coupe", "limousine", "taxi", "roadster", "jeep", "station wagon", "sports car", "minivan",
    ),
    "bird": (
        "robin", "eagle", "ostrich", "parrot", "hawk", "crow", "hummingbird", "heron",
    ),
    "cat": (
        "tabby", "tomcat", "siamese", "persian cat", "pussycat", "mouser", "alley cat",
    ),
    "deer": (
        "stag", "elk", "moose", "reindeer", "caribou", "fawn", "roe deer",
    ),
    "dog": (
        "spaniel", "poodle", "beagle", "collie", "labrador retriever", "chihuahua", "mutt",
        "bulldog",
    ),
    "frog": (
        "toad", "bullfrog", "tree toad", "spring peeper", "leopard frog", "batrachian",
    ),
    "horse": (
        "colt", "stallion", "foal", "mustang", "bronco", "gelding", "filly", "thoroughbred",
    ),
    "ship": (
        "yacht", "ocean liner", "oil tanker", "warship", "speedboat", "tugboat", "frigate",
        "steamship",
    ),
    "truck": (
        "lorry", "pickup", "fire engine", "tow truck", "garbage truck", "tractor trailer",
        "moving van",
    ),
}  # fmt: skip

# Caltech-101 folders whose pictures show a CIFAR class: (concept, parent or "").
CALTECH: dict[str, tuple[str, str]] = {
    "airplanes": ("airplane", ""),
    "car_side": ("automobile", ""),
    "dalmatian": ("dalmatian", "dog"),
    "emu": ("emu", "bird"),
    "flamingo": ("flamingo", "bird"),
    "flamingo_head": ("flamingo", "bird"),
    "ibis": ("ibis", "bird"),
    "pigeon": ("pigeon", "bird"),
    "rooster": ("rooster", "bird"),
    "wild_cat": ("wildcat", "cat"),
    "ketch": ("ketch", "ship"),
    "schooner": ("schooner", "ship"),
    "ferry": ("ferry", "ship"),
    "Motorbikes": ("motorbike", ""),
    "Leopards": ("leopard", ""),
    "Faces": ("face", ""),
    "Faces_easy": ("face", ""),
    "bass": ("bass fish", ""),
    "binocular": ("binoculars", ""),
    "cougar_body": ("cougar", ""),
    "cougar_face": ("cougar", ""),
    "crocodile_head": ("crocodile", ""),
    "garfield": ("cartoon of garfield", ""),
    "snoopy": ("cartoon of snoopy", ""),
    "cellphone": ("cell phone", ""),
    "headphone": ("headphones", ""),
    "hawksbill": ("sea turtle", ""),
    "lotus": ("lotus flower", ""),
    "nautilus": ("nautilus shell", ""),
    "rhino": ("rhinoceros", ""),
    "sea_horse": ("seahorse", ""),
    "water_lilly": ("water lily", ""),
    "yin_yang": ("yin and yang symbol", ""),
    "watch": ("wristwatch", ""),
    "tick": ("tick insect", ""),
    "BACKGROUND_Google": ("", ""),  # anything at all: no concept
}

# COCO categories that are a CIFAR class under another name.
COCO: dict[str, str] = {"car": "automobile", "boat": "ship", "motorcycle": "motorbike"}

EXTRA_SYNONYMS: dict[str, tuple[str, ...]] = {
    "motorbike": ("motorbike", "motorcycle"),
    "face": ("face", "human face", "portrait"),
    "person": ("person", "man", "woman", "human being", "child"),
    "couch": ("couch", "sofa"),
    "tv": ("tv", "television"),
    "cell phone": ("cell phone", "mobile phone"),
    "dining table": ("dining table", "table"),
    "brontosaurus": ("brontosaurus", "dinosaur"),
    "laptop": ("laptop", "notebook computer"),
    "chair": ("chair", "seat"),
    "butterfly": ("butterfly", "flying insect"),
    "cup": ("cup", "mug"),
    "bicycle": ("bicycle", "bike"),
    "potted plant": ("potted plant", "houseplant"),
    "donut": ("donut", "doughnut"),
    "wristwatch": ("wristwatch", "watch"),
}

TEMPLATES: tuple[str, ...] = (
    "{}", "a {}", "the {}", "a photo of a {}.", "a photo of the {}.", "a picture of a {}.",
    "an image of a {}", "a blurry photo of a {}.", "a small photo of a {}.",
    "a low resolution photo of a {}.", "a close-up photo of a {}.", "a bad photo of a {}.",
    "a cropped photo of a {}.", "a bright photo of a {}.", "a dark photo of a {}.",
    "a photo of one {}.", "this is a {}", "a {} outside", "there is a {} in the picture",
)  # fmt: skip

PHRASES: tuple[str, ...] = (
    "a red {}", "a white {}", "a black {}", "a blue {}", "a green {}", "a brown {}",
    "a yellow {}", "an old {}", "a big {}", "a little {}", "a {} at night", "a {} in the snow",
    "a {} on a sunny day", "a {} on the grass", "a {} by the water", "two {}s", "a group of {}s",
    "{}s", "a photo of {}s", "a {} seen from the side", "my {}", "someone's {}",
)  # fmt: skip


def caltech_concept(folder: str) -> tuple[str, str]:
    """The concept of a Caltech-101 folder and its parent class, if any."""
    return CALTECH.get(folder, (folder.replace("_", " ").lower(), ""))


def synonyms(concept: str) -> tuple[str, ...]:
    """The words used with pictures of a concept."""
    return SYNONYMS.get(concept) or EXTRA_SYNONYMS.get(concept) or (concept,)
