"""The supernet: one set of weights for every architecture of a space (BigNAS, arXiv:2003.11142)."""

import dataclasses
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces.architecture import Architecture
from search_spaces.blocks import make_blocks
from search_spaces.errors import InputError
from search_spaces.layer import LayerSpec
from search_spaces.network import Network, calibrate, run_layers
from search_spaces.space import SearchSpace
from search_spaces.stage_table import StageTable
from search_spaces.tensor_file import damaged, read_tensors, write_tensors

_KIND = "supernet"


class Supernet(nn.Module):
    """Holds the weights that the architectures of a space share, and stands for one of them at a time.

    A subnet uses the leading channels of every shared tensor and the central part of every kernel.

    In training mode batch normalisation uses the statistics of the batch, and the supernet keeps none: those of one
    subnet would be wrong for the others. In evaluation mode it uses those of the images given to `calibrate`.

    Attributes:
        space: whose architectures it can be.
        active: the architecture it stands for; at first the largest.
        layers: those of the active architecture.
        blocks: the shared parameters, by layer name.
    """

    def __init__(self, space: SearchSpace, *, seed: int = 0) -> None:
        """Makes a supernet with fresh weights.

        Args:
            space: whose architectures it can be.
            seed: of the initial weights (`make_blocks`).
        """
        super().__init__()
        self.space = space
        self.blocks = make_blocks(space.shared_layers.values(), seed=seed)
        _forget_statistics(self.blocks)
        self.active = space.largest()
        self.layers = space.layers(self.active)
        # Not a submodule: the supernet's own tensors are the shared ones.
        self._calibrated: tuple[Network] | None = None

    @property
    def resolution(self) -> int:
        """Side in pixels of the image that the active subnet reads."""
        return self.layers[0].in_size

    def activate(self, architecture: Architecture) -> None:
        """Makes the supernet stand for an architecture, not yet calibrated.

        Raises:
            InputError: the architecture is not of this space.
        """
        if not self.space.contains(architecture):
            raise InputError(f"space {self.space.name!r} does not contain {architecture.text!r}")
        self.active, self.layers, self._calibrated = architecture, self.space.layers(architecture), None

    def train(self, mode: bool = True) -> "Supernet":
        """Sets the mode; training mode drops the calibration, which new weights make wrong."""
        if mode:
            self._calibrated = None
        super().train(mode)
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Maps (n, image channels, s, s), s the active resolution, to logits (n, classes).

        Raises:
            RuntimeError: in evaluation mode, where the active subnet is not calibrated.
        """
        if not self.training:
            if self._calibrated is None:
                raise RuntimeError("call calibrate after activate: the active subnet has no batch-norm statistics yet")
            logits: Tensor = self._calibrated[0](image)
            return logits
        parameters = self._active_parameters()
        return run_layers(
            self.layers, image, lambda layer, *maps: functional_call(_skeleton(layer), parameters[layer.name], maps)
        )

    def _active_parameters(self) -> dict[str, dict[str, Tensor]]:
        """Returns, by layer name, views of the shared parameters in the shapes of the active subnet."""
        shared = dict(self.blocks.named_parameters())
        return {
            layer.name: {
                name: _cut(shared[f"{layer.name}.{name}"], like.shape)
                for name, like in _skeleton(layer).named_parameters()
            }
            for layer in self.layers
        }

    @torch.no_grad()
    def extract(self) -> Network:
        """Returns a copy of the active subnet as a plain network.

        In evaluation mode where calibrated; otherwise in training mode, its running statistics still unset.
        """
        # Without drawing initial weights, which would take longer than copying the shared ones.
        network = Network(self.layers, device="meta").to_empty(device=next(self.parameters()).device)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        if self._calibrated is not None:
            network.load_state_dict(self._calibrated[0].state_dict())
            return network.eval()
        for name, tensors in self._active_parameters().items():
            network.blocks[name].load_state_dict(tensors, strict=False)  # not strict: there are no statistics
        return network

    def calibrate(self, images: Tensor) -> None:
        """Gives the active subnet the batch-norm statistics of images, and sets evaluation mode.

        Args:
            images: as `search_spaces.network.calibrate` reads them, at the active resolution.

        Raises:
            ValueError: there is no image.
        """
        self._calibrated = None
        network = self.extract()
        calibrate(network, images)
        self.eval()
        self._calibrated = (network,)


@lru_cache(maxsize=4096)
def _shapes(layer: LayerSpec) -> nn.Module:
    (block,) = make_blocks([layer], seed=0, device="meta").values()
    _forget_statistics(block)
    return block


def _skeleton(layer: LayerSpec) -> nn.Module:
    """Returns a layer's module without values; making it costs more than running it, so equal shapes share one."""
    return _shapes(dataclasses.replace(layer, name="block", inputs=(), in_size=1, out_size=1))


def _cut(shared: Tensor, shape: torch.Size) -> Tensor:
    """Returns a view: the leading part of the channel axes, the central part of the kernel axes (2 and 3)."""
    cut = []
    for axis, (full, part) in enumerate(zip(shared.shape, shape, strict=True)):
        start = (full - part) // 2 if axis >= 2 else 0
        cut.append(slice(start, start + part))
    return shared[tuple(cut)]


def _forget_statistics(module: nn.Module) -> None:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def save_supernet(supernet: Supernet, path: Path) -> None:
    """Writes the shared weights as safetensors, with the space's table in the metadata."""
    write_tensors(path, _KIND, supernet.state_dict(), {"space": supernet.space.table.model_dump_json()})


def load_supernet(path: Path) -> Supernet:
    """Returns the supernet of a file that `save_supernet` wrote, on the CPU.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    metadata, tensors = read_tensors(path, _KIND)
    try:
        supernet = Supernet(SearchSpace(StageTable.model_validate_json(metadata["space"])))
        supernet.load_state_dict(tensors)
    except (ValueError, KeyError, RuntimeError) as error:
        raise damaged(path, error) from None
    return supernet
