"""The guided tour: its stops and their texts."""

from __future__ import annotations

# Name of a model of the pair, or a CSS selector outside it; title; text. A stop that is
# not on the page is skipped.
STOPS = (
    (
        "station 0",
        "Every gradient",
        "Each dot below is a gradient: how one image, under one possible label, "
        "pulls on the network's weights. These four boxes are the levels of "
        "averaging; the bar says how much of G each keeps.",
    ),
    (
        "play",
        "Three averages",
        "Play takes them one after the other: over images, over labels, over "
        "classes. Step and Back go one at a time, the rail above goes anywhere "
        "between.",
    ),
    (
        "embedding",
        "Which gradients gather",
        "Colour and shape show the true class. Press a mark: its class stays, and "
        "the outliers that it points along stand out in the spectrum.",
    ),
    (
        "spectrum",
        "The outliers",
        "Nearly all eigenvalues lie in the bulk near zero; a few stand apart. The "
        "orange sticks are what the class means carry by themselves.",
    ),
    (
        "knockout",
        "Break it",
        "Subtract the class part, and the outliers shrink by what it carries. Remove "
        "all directions of the class means, to see which outliers need them.",
    ),
    (
        "classes",
        "Linked both ways",
        "Pick a class or an eigenvector here too, with the mouse or the keyboard. "
        "Escape clears.",
    ),
    (
        "overlap",
        "The overlaps in numbers",
        "How much of each class mean points along each eigenvector. The bars say how "
        "much of it lies in the span of all class means, the bands what shuffled "
        "labels reach.",
    ),
    (
        ".wb-shown",
        "Your own",
        "Train your own opens the settings: choose images, a network and a training, "
        "and press Train. The same pictures, for your network, will replace these.",
    ),
)
