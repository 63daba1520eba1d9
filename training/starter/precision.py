"""The numbers that training computes with: bfloat16 where the processor has it, else float32.

Elsewhere bfloat16 is emulated, which takes several times as long as float32.
"""

from __future__ import annotations

import torch


def fast() -> torch.dtype:
    """What matrix products are fastest in here."""
    has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


def autocast(device: str = "cpu") -> torch.autocast:
    """Compute what is below in :func:`fast` numbers; weights stay float32."""
    enabled = device != "cpu" or fast() is torch.bfloat16
    return torch.autocast(device, torch.bfloat16, enabled=enabled)
