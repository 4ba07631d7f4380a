"""Random tensors from a counter-based hash: a pure function of key, draw number and position.

The same bits on CPU and CUDA (32-bit integers and one exact conversion to float32), whatever the order or the
batch; no generator, no state. Not for cryptography.
"""

import torch
from torch import Tensor


def uniform(
    keys: Tensor, shape: tuple[int, int, int], draw: int, *, device: torch.device | str | None = None
) -> Tensor:
    """Draw uniform numbers in [-1, 1), one image for each key.

    Args:
        keys: ``(N,)`` int64, the identity of each image's stream; any values.
        shape: ``(C, H, W)`` of one image.
        draw: which draw of the stream, in [0, 2**32).
        device: where to compute; the device of ``keys`` when omitted.
    Returns:
        ``(N, C, H, W)`` float32, multiples of 2**-23 in [-1, 1), each equally likely. Values depend on the
        flat position inside ``shape``, so another width is another picture.
    Raises:
        ValueError: if ``keys`` is not ``(N,)`` int64 or ``draw`` is out of range.
    """
    # The shift keeps the sign: 24 bits in [-2**23, 2**23), which float32 holds exactly.
    return _bits(keys, shape, draw, device).bitwise_right_shift_(8).to(torch.float32).mul_(2.0**-23)


def signs(
    keys: Tensor, shape: tuple[int, int, int], draw: int, *, device: torch.device | str | None = None
) -> Tensor:
    """Draw -1 or +1 with equal chances, one image for each key.

    Args:
        keys: ``(N,)`` int64, the identity of each image's stream; any values.
        shape: ``(C, H, W)`` of one image.
        draw: which draw of the stream, in [0, 2**32).
        device: where to compute; the device of ``keys`` when omitted.
    Returns:
        ``(N, C, H, W)`` float32. Made from a bit that ``uniform`` drops, so both may share a key and a draw.
    Raises:
        ValueError: if ``keys`` is not ``(N,)`` int64 or ``draw`` is out of range.
    """
    return _bits(keys, shape, draw, device).bitwise_and_(1).mul_(2).sub_(1).to(torch.float32)


def _bits(keys: Tensor, shape: tuple[int, int, int], draw: int, device: torch.device | str | None) -> Tensor:
    """Hash key, draw and position to ``(N, C, H, W)`` int32, all 2**32 values equally likely."""
    if keys.dtype != torch.int64 or keys.ndim != 1:
        raise ValueError(f"keys must be int64 (N,); found {keys.dtype} {tuple(keys.shape)}")
    if not 0 <= draw < 2**32:
        raise ValueError(f"draw must be in [0, 2**32); found {draw}")
    keys = keys.to(device)
    low, high = keys.to(torch.int32), (keys >> 32).to(torch.int32)
    # Two words for each stream. For one draw the map from keys is one to one; for one key no two draws meet.
    first = _mix(_mix(low) ^ _signed(draw * 0x9E3779B9))
    second = _mix(_mix(high ^ first) ^ _signed(draw * 0x85EBCA6B))
    channels, height, width = shape
    position = torch.arange(channels * height * width, dtype=torch.int32, device=keys.device)
    return _mix(_mix(position ^ first[:, None]) ^ second[:, None]).reshape(len(keys), channels, height, width)


def _mix(word: Tensor) -> Tensor:
    """Scramble int32 words one to one: lowbias32 of Wellons' hash-prospector.

    Writes into its argument, always a tensor made here: ten times faster than new ones (measured on a CPU).
    int32 products wrap around, as wanted; ``>>`` copies the sign bit, so the copies are masked out.
    """
    word ^= (word >> 16).bitwise_and_(0xFFFF)
    word *= 0x7FEB352D
    word ^= (word >> 15).bitwise_and_(0x1FFFF)
    word *= _signed(0x846CA68B)
    word ^= (word >> 16).bitwise_and_(0xFFFF)
    return word


def _signed(word: int) -> int:
    """Read the low 32 bits of an integer as two's complement."""
    return (word + 2**31) % 2**32 - 2**31
