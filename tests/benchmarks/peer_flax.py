"""A ViT in Flax, as its layers are meant to be used. See `peer.py`.

python peer_flax.py float32|bfloat16
"""

from __future__ import annotations

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import peer

# Of products and activations; weights are float32.
_DTYPE = jnp.dtype(sys.argv[1])
# What Flax calls the places of a path.
_PLACES = {
    "embedding": "Conv_0",
    "cls": "cls",
    "posembed_input": "positions",
    "encoder_norm": "LayerNorm_0",
    "head": "Dense_0",
}


class Block(nn.Module):
    """Attention, then an MLP, each normalised before and added after."""

    @nn.compact
    def __call__(self, x):
        normal = nn.LayerNorm(dtype=_DTYPE)(x)
        attend = nn.MultiHeadDotProductAttention(
            num_heads=peer.NUM_HEADS, dtype=_DTYPE
        )
        x = x + attend(normal, normal)
        hidden = nn.gelu(
            nn.Dense(peer.MLP_DIM, dtype=_DTYPE)(nn.LayerNorm(dtype=_DTYPE)(x))
        )
        return x + nn.Dense(peer.WIDTH, dtype=_DTYPE)(hidden)


class Vit(nn.Module):
    """A ViT-Ti/16 that reads its class token.

    Attributes:
      shape: what it is given and how deep it is.
    """

    shape: peer.Shape

    @nn.compact
    def __call__(self, images):
        sides = (peer.PATCH_SIZE, peer.PATCH_SIZE)
        x = nn.Conv(peer.WIDTH, sides, sides, padding="VALID", dtype=_DTYPE)(
            images
        )
        x = x.reshape(len(images), -1, peer.WIDTH)
        zeros, normal = nn.initializers.zeros, nn.initializers.normal(0.02)
        token = self.param("cls", zeros, (1, 1, peer.WIDTH))
        tokens = jnp.tile(token, (len(images), 1, 1)).astype(_DTYPE)
        x = jnp.concatenate([tokens, x], 1)
        positions = self.param("positions", normal, (1, *x.shape[1:]))
        x = x + positions.astype(_DTYPE)
        for _ in range(self.shape.num_layers):
            x = Block()(x)
        features = nn.LayerNorm(dtype=_DTYPE)(x)[:, 0]
        return nn.Dense(self.shape.num_classes)(features.astype("float32"))


def make_run(shape: peer.Shape):
    """Returns what `peer.serve` needs."""
    model = Vit(shape)
    images, labels = map(jnp.asarray, peer.batch(shape))
    weights = model.init(jax.random.PRNGKey(0), images[:1])["params"]
    blocks = {f"encoderblock_{i}": f"Block_{i}" for i in range(len(weights))}
    places = {**_PLACES, **blocks}
    chosen = {places[name] for name in shape.trained} or set(weights)
    trained = {k: v for k, v in weights.items() if k in chosen}
    frozen = {k: v for k, v in weights.items() if k not in chosen}
    optimizer = optax.sgd(peer.LEARNING_RATE, momentum=peer.MOMENTUM)

    def update(state, frozen, images, labels):
        trained, moments = state

        def loss_of(trained):
            logits = model.apply({"params": {**frozen, **trained}}, images)
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, labels
            )
            return losses.mean()

        loss, gradients = jax.value_and_grad(loss_of)(trained)
        changes, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(trained, changes), moments), loss

    compiled = jax.jit(update, donate_argnums=0)
    state = trained, optimizer.init(trained)

    def step():
        nonlocal state
        state, loss = compiled(state, frozen, images, labels)
        jax.block_until_ready((state, loss))

    num_params = sum(leaf.size for leaf in jax.tree.leaves(weights))
    said = {"num_params": num_params, "version": f"JAX {jax.__version__}"}
    return peer.timed(step), said


if __name__ == "__main__":
    peer.serve(make_run)
