"""What is updated: the shapes of the variables of a few models, without the models."""

LARGE = "one variable of 25 M"


def resnet50() -> list[tuple[int, ...]]:
    """Returns the 214 trainable shapes of ResNet-50, for backends without keras.applications."""
    convolutions: list[tuple[int, ...]] = [(7, 7, 3, 64)]
    channels = 64
    for filters, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            if block == 0:
                convolutions.append((1, 1, channels, 4 * filters))
            convolutions += [(1, 1, channels, filters), (3, 3, filters, filters)]
            convolutions.append((1, 1, filters, 4 * filters))
            channels = 4 * filters
    # Each with a bias, and with the scale and the offset of its normalization.
    shapes = [shape for kernel in convolutions for shape in (kernel, *[kernel[-1:]] * 3)]
    return [*shapes, (2048, 1000), (1000,)]


MODELS: dict[str, list[tuple[int, ...]]] = {
    LARGE: [(5000, 5000)],
    "ResNet-50's 214 variables": resnet50(),
    "800 variables of 64": [(64,)] * 800,
    "a small network's 6 variables": [(64, 64), (64,), (64, 32), (32,), (32, 10), (10,)],
}


def chosen(quick: bool) -> dict[str, list[tuple[int, ...]]]:
    """Returns all models, or those that are traced quickly."""
    return {name: s for name, s in MODELS.items() if not quick or len(s) < 100}


# For the settings: the large variable, and some that are in between.
MIXED = [(5000, 5000), (1024, 1024), (1024,), (512, 512), (512,), (256, 256), (256,)]
