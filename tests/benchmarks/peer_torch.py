"""A ViT in PyTorch: `plain` (its own encoder layers) or `timm`'s.

    python peer_torch.py plain|timm [compiled] float32|bfloat16

`compiled` adds `torch.compile`, bfloat16 is autocast. See `peer.py`.
"""

from __future__ import annotations

import os
import sys

import peer
import torch
from torch import nn


class Vit(nn.Module):
    """A ViT-Ti/16 that reads its class token."""

    def __init__(self, shape: peer.Shape):
        super().__init__()
        patch, width = peer.PATCH_SIZE, peer.WIDTH
        self.embedding = nn.Conv2d(peer.NUM_CHANNELS, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        positions = torch.randn(1, 1 + shape.num_patches, width) * 0.02
        self.positions = nn.Parameter(positions)
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width,
                    peer.NUM_HEADS,
                    peer.MLP_DIM,
                    dropout=0.0,
                    activation=nn.GELU(approximate="tanh"),
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(shape.num_layers)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, shape.num_classes)

    def forward(self, images):
        x = self.embedding(images).flatten(2).transpose(1, 2)
        token = self.token.expand(len(x), -1, -1)
        x = torch.cat([token, x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def _timm(shape: peer.Shape):
    import timm

    return timm.create_model(
        "vit_tiny_patch16_224",
        img_size=shape.image_size,
        depth=shape.num_layers,
        num_classes=shape.num_classes,
    )


def make_run(shape: peer.Shape):
    """Returns what `peer.serve` needs."""
    kind, *options = sys.argv[1:]
    model = {"plain": Vit, "timm": _timm}[kind](shape)
    forward = torch.compile(model) if "compiled" in options else model
    images, labels = map(torch.from_numpy, peer.batch(shape))
    images, labels = images.permute(0, 3, 1, 2).contiguous(), labels.long()
    optimizer = torch.optim.SGD(
        model.parameters(), peer.LEARNING_RATE, momentum=peer.MOMENTUM
    )

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, "bfloat16" in options):
            loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    num_params = sum(p.numel() for p in model.parameters())
    version = f"PyTorch {torch.__version__}"
    return peer.timed(step), {"num_params": num_params, "version": version}


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    peer.serve(make_run)
