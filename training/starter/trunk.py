"""What the head reads: the backbone's features, and beside them those of thumbnails."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbone import FEATURES, Backbone
from .thumbnail import WIDTHS, Thumbnail


class Trunk(nn.Module):
    """Normalised pictures to features, [N, width]; ``classify`` goes on from the backbone's."""

    def __init__(self, backbone: Backbone, thumbnail: Thumbnail | None = None) -> None:
        super().__init__()
        self.backbone, self.thumbnail = backbone, thumbnail
        self.width = FEATURES + (WIDTHS[-1] if thumbnail else 0)

    def forward(self, pixels: Tensor) -> Tensor:
        """The backbone's 1,280 features, then the thumbnail's, if there is a network for it."""
        features: Tensor = self.backbone(pixels).float()
        if self.thumbnail is None:
            return features
        return torch.cat([features, self.thumbnail(pixels).float()], 1)

    def classify(self, features: Tensor) -> Tensor:
        """The backbone's logits of ImageNet's 1,000 classes."""
        return self.backbone.classify(features[:, :FEATURES])
