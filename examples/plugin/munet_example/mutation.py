"""A mutation: learning rates between the steps of the published range."""

from __future__ import annotations

import dataclasses

from keras_munet import plugins

_RATE_MIN = 1e-4


def halve_rate(
    proposal: plugins.Proposal,
    parent: plugins.PathRecord,
    prob: float,
    draws: plugins.RandomDraws,
) -> plugins.Proposal:
    """Returns the proposal with its learning rate halved, or as it is."""
    del parent
    if draws.uniform("munet_example halve_rate") >= prob:
        return proposal
    rate = max(_RATE_MIN, proposal.hparams["opt_lr"] / 2)
    return dataclasses.replace(
        proposal, hparams={**proposal.hparams, "opt_lr": rate}
    )
