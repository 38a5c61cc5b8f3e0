"""Seeded mutations of small binary files."""

import random
from collections.abc import Iterator


def mutations(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield damaged copies: bits flipped, numbers replaced, pieces cut, doubled or moved."""
    draw = random.Random(seed)
    extremes = [0, 1, 2, 31, 2**7, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]
    for _ in range(count):
        data = bytearray(content)
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            # headers come first: half of the damage is done there
            at = draw.randrange(draw.choice((len(data), min(len(data), 256))) or 1)
            match draw.randrange(6):
                case 0:
                    data[at] ^= 1 << draw.randrange(8)
                case 1:
                    data[at] = draw.randrange(256)
                case 2:
                    size = draw.choice((4, 8))
                    number = draw.choice(extremes) % (1 << 8 * size)
                    data[at : at + size] = number.to_bytes(size, "little")
                case 3:
                    del data[at:]
                case 4:
                    piece = data[at : at + draw.randrange(1, 40)]
                    data[at:at] = piece
                case 5:
                    del data[at : at + draw.randrange(1, 40)]
            if not data:
                break
        yield bytes(data)
