"""What proposes architectures, one sampler a module; importing this package registers them."""

from nas.search.samplers.architecture_knowledge import hypervolume_sampler
from nas.search.samplers.base import SeededSampler, distributions, get_sampler, list_samplers, register_sampler
from nas.search.samplers.hypervolume import GAIN, HypervolumeSampler
from nas.search.samplers.nsga2 import StaticSpaceNSGAII
from nas.search.samplers.random import random_sampler
from nas.search.samplers.tpe import StaticSpaceTPE

__all__ = [
    "GAIN",
    "HypervolumeSampler",
    "SeededSampler",
    "StaticSpaceNSGAII",
    "StaticSpaceTPE",
    "distributions",
    "get_sampler",
    "hypervolume_sampler",
    "list_samplers",
    "random_sampler",
    "register_sampler",
]
