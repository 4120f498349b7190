"""Images for `convolution.yaml`."""

import numpy as np

SIZE = 16


def shapes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw discs, squares and crosses of any size, anywhere in the image, under noise.

    Every attempt of a run calls this again and must get the same images, hence the seed.

    Args:
        count: number of images.
        seed: another seed draws other images.

    Returns:
        x, grey values of shape (count, 16, 16, 1), and y, shape (count,): 0 a disc, 1 a square,
        2 a cross.
    """
    draw = np.random.default_rng(seed)
    kind = draw.integers(3, size=count)
    radius, row, column = draw.uniform([[4], [6], [6]], [[6], [9], [9]], (3, count))
    down = abs(np.arange(SIZE)[:, None] - row[:, None, None])
    right = abs(np.arange(SIZE)[None, :] - column[:, None, None])
    radius = radius[:, None, None]
    near = np.maximum(down, right) <= radius
    images = np.select(
        [kind[:, None, None] == 0, kind[:, None, None] == 1],
        [np.hypot(down, right) <= radius, near],
        near & (np.minimum(down, right) <= 1),
    )
    noise = draw.normal(scale=0.2, size=images.shape)
    return (images + noise)[..., None].astype("float32"), kind
