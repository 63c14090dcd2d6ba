"""Which shapes of samples can the networks make and judge, and through which sizes do they grow?"""

from attacks.errors import InputError


def sides(shape: tuple[int, ...]) -> list[int]:
    """The sides of the square feature maps, from the image's own down: 28, 14, 7; 64, 32, 16, 8, 4; 8, 4, 2.

    Two halvings, which is why the side must be a multiple of 4, and more for as long as it is even and above 4.
    Raises InputError unless shape is [channels, side, side] with such a side.
    """
    if len(shape) != 3 or min(shape) < 1 or shape[1] != shape[2] or shape[1] % 4:
        raise InputError(
            f"This network is for square images [channels, side, side] whose side is a multiple of 4; the samples are "
            f"{list(shape)}. Resize or pad the images, or take the kind 'mlp', which knows no sides."
        )
    found = [shape[1], shape[1] // 2, shape[1] // 4]
    while found[-1] % 2 == 0 and found[-1] > 4:
        found.append(found[-1] // 2)
    return found


def doubling(width: int, levels: int) -> list[int]:
    """Channels for so many levels: width, then twice as many at each halving of the side, up to eight times."""
    return [width * min(2**level, 8) for level in range(levels)]
