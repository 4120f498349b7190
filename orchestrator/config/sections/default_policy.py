"""The policy of a config that has none, as a config would write it.

The order of the remedies is measured, by `tests/benchmarks/restarts`.
"""

from __future__ import annotations

from typing import Any

_LOWER = {
    "remedy": "lower_learning_rate",
    "factor": "auto",
    "momentum": 0.9,
    "anneal": 0.1,
    "rewind": True,
}
_LOWER_FROM_NOW_ON = {**_LOWER, "keep": True}
_NEW_SEED = {"remedy": "new_seed"}
_SEEDS = {"remedy": "new_seed", "times": 3}
_ANOTHER_ORDER = {"remedy": "new_seed", "rewind": "only"}
_RAISE = {"remedy": "raise_learning_rate", "when": None, "momentum": 0.9, "keep": True}
_LEAKY = {"remedy": "leaky_relu"}
_REINITIALIZE = {"remedy": "reinitialize"}
_FRESH = {"remedy": "reinitialize", "keep": True, "raise_rate": True}
_CLIP = {"remedy": "clip_gradients", "rewind": True}
_UNCLIP = {"remedy": "clip_gradients", "keep": True, "raise_rate": True}
_USUAL = {"remedy": "usual_settings", "keep": True}

_LIVING = ["constant", "worse_than_baseline"]
"""Failures of networks whose units are alive: one that cannot learn noise is not at fault, one that
is dead may be."""

_POOR = [*_LIVING, "crippled"]
_THROWN = ["non_finite", "diverged"]
_LOST = ["died", *_THROWN]

DEFAULT_POLICY: Any = [
    # What is at fault is known, and so is what to write instead.
    {"remedy": "fix_output", "keep": True, "raise_rate": True, "cap_rate": True},
    {"remedy": "standardize", "raise_rate": True, "cap_rate": True},
    # The data is at fault.
    {"when": {"certain": True}, "rungs": []},
    {"when": {"kind": _LIVING, "cause": ["unrelated_targets"], "count": 2}, "rungs": []},
    # So is the user's own loss; where the skill is not judged, a rate that trains nothing passes.
    {"when": {"kind": _LIVING, "cause": ["constant_reconstruction"], "count": 2}, "rungs": []},
    # No seed brings back what rows differ by, and lose on their way to the output; nor does any
    # setting make a mean of two values, of which BatchNorm takes it.
    {
        "when": {"kind": [*_POOR, "undertrained"], "cause": ["lost_signal", "small_batches"]},
        "rungs": [],
    },
    # No seed makes a linear network bend.
    {"when": {"kind": _POOR, "cause": ["too_small"], "count": 2}, "rungs": []},
    # Momentum and a higher rate are all that answers a gradient that is lost on its way.
    {
        "when": {"kind": [*_POOR, "undertrained"], "cause": ["vanishing_gradient"], "count": 2},
        "rungs": [],
    },
    # A loss that is NaN before any step is so at every rate; another seed may be spared.
    {"when": {"kind": ["non_finite"], "cause": ["undefined_loss"], "count": 2}, "rungs": []},
    {"when": {"kind": ["non_finite"], "cause": ["undefined_loss"]}, "rungs": [_NEW_SEED]},
    # What is learnt with dropout is wrong without it, or drowns in it.
    {
        "remedy": "lower_dropout",
        "when": {"kind": [*_POOR, "undertrained"], "cause": ["heavy_dropout"]},
        "keep": True,
        "raise_rate": True,
        "cap_rate": True,
    },
    # A penalty that outweighs what there is to learn is more than it is there for.
    {
        "remedy": "lower_penalty",
        "when": {"kind": [*_POOR, "undertrained"], "cause": ["over_regularised"]},
        "keep": True,
        "raise_rate": True,
        "cap_rate": True,
    },
    # No seed outweighs one that is left.
    {"when": {"kind": _POOR, "cause": ["over_regularised"], "count": 2}, "rungs": []},
    # What one remedy did not mend has several faults, or one that nothing names. What was healthy
    # before steps that were too large need not be trained again.
    {
        "when": {"kind": [*_POOR, *_LOST, "undertrained"], "count": 2},
        "rungs": [
            {**_LOWER_FROM_NOW_ON, "rewind": "only", "times": 2},
            _USUAL,
            {**_LOWER_FROM_NOW_ON, "when": _THROWN, "times": 4},
            {**_USUAL, "times": 2},
        ],
    },
    # The network is too deep and narrow for relu, and mostly for its rate and weights as well.
    {
        "when": ["often_dead_at_init"],
        "rungs": [
            {**_LOWER_FROM_NOW_ON, "rewind": "only", "when": ["unusual_rate"]},
            _USUAL,
            _LEAKY,
            _NEW_SEED,
            _LOWER,
        ],
    },
    # Units that are born dead learn nothing at any rate, and no seed wakes them.
    {
        "when": {"kind": [*_POOR, "died", "diverged", "undertrained"], "cause": ["initialization"]},
        "rungs": [_FRESH, _LEAKY, _LOWER],
    },
    # A bound on gradients, so low that no weight moves, gets a usual one in its place.
    {"when": {"kind": [*_POOR, "undertrained"], "cause": ["clipped"]}, "rungs": [_UNCLIP, _USUAL]},
    # A rate that is far from the usual one is what such a failure comes from.
    {
        "when": {"kind": [*_POOR, "died", "undertrained"], "cause": ["unusual_rate"]},
        "rungs": [_LOWER_FROM_NOW_ON, _RAISE, _LEAKY, _NEW_SEED],
    },
    # Weights that have hardly moved say how much higher the rate has to be, and a schedule that
    # has ended too soon how much longer it is to be.
    {
        "when": {"kind": [*_POOR, "undertrained"], "cause": ["rate_too_low", "no_effect"]},
        "rungs": [_RAISE, _USUAL],
    },
    # What was on its way needs a higher rate or more epochs: no seed brings it much further. Where
    # its weights have moved, a higher rate alone fails once more in two cases of five.
    {"when": {"kind": ["undertrained"]}, "rungs": [_USUAL, _RAISE]},
    {"when": {"kind": _POOR, "cause": ["undertrained", "few_steps"]}, "rungs": [_USUAL, _RAISE]},
    # No seed makes a linear network bend.
    {"when": {"kind": _POOR, "cause": ["too_small"]}, "rungs": []},
    # That its statistics lag is not all, where settling them did not suffice.
    {"when": {"kind": _POOR, "cause": ["lagging_statistics"]}, "rungs": [_USUAL]},
    {"when": {"kind": _POOR, "cause": ["oscillating"]}, "rungs": [_LOWER, _NEW_SEED, _LEAKY]},
    # Steps too large for the rows; some seeds are spared.
    {
        "when": {"kind": _LIVING, "cause": ["unscaled_inputs"]},
        "rungs": [_LOWER, _NEW_SEED, _LEAKY],
    },
    # The way to such targets is too long, longer at a lower rate, and as long from another seed.
    {
        "when": {"kind": _LIVING, "cause": ["distant_targets"]},
        "rungs": [_RAISE, _USUAL],
    },
    # What weights of no usual size throw at the loss in the first steps.
    {
        "when": {"kind": _THROWN, "cause": ["unusual_start"]},
        "rungs": [_FRESH, _LOWER, _CLIP, _NEW_SEED],
    },
    # Steps too large.
    {"when": ["non_finite"], "rungs": [_LOWER, _CLIP, _NEW_SEED]},
    {"when": ["diverged"], "rungs": [_LOWER, _LEAKY, _NEW_SEED]},
    # Where seeds were screened, another seed is no different from those.
    {
        "when": {"kind": ["always_dead_at_init"], "cause": ["initialization"]},
        "rungs": [_FRESH, _LEAKY],
    },
    {"when": ["always_dead_at_init"], "rungs": [_USUAL, _LEAKY, _REINITIALIZE]},
    {
        "when": {"kind": ["dead_at_init"], "cause": ["initialization"]},
        "rungs": [_FRESH, _LEAKY, _SEEDS],
    },
    {"when": ["dead_at_init"], "rungs": [_SEEDS, _LEAKY, _REINITIALIZE]},
    # Bad luck. Where the network was healthy before, another order of the rows is enough; where it
    # was not, another seed alone dies again, or is caught on the way.
    {"when": ["died"], "rungs": [_ANOTHER_ORDER, _USUAL, _LEAKY, _NEW_SEED, _LOWER]},
    # Alive, and too narrow for what there is to learn, or caught on the way.
    {"when": _POOR, "rungs": [_USUAL, _NEW_SEED, _LEAKY, _LOWER]},
    {"when": ["metric", "crashed"], "rungs": [_SEEDS, {**_LOWER, "times": 3}]},
]
