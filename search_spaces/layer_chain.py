"""LayerChain: layers appended one after the other, each reading the one before it."""

from search_spaces.layer import IMAGE, Activation, LayerSpec, conv_output_size


class LayerChain:
    """Layers in the making, and the feature map that the next one reads.

    Attributes:
        layers: made so far, in execution order.
        last: name of the layer that the next one reads; at first the network's input.
        channels: of its feature map.
        size: height and width of its feature map, in pixels.
    """

    def __init__(self, channels: int, size: int, *, last: str = IMAGE, prefix: str = "") -> None:
        """Starts at a feature map.

        Args:
            channels: of it.
            size: height and width of it, in pixels.
            last: name of the layer that makes it.
            prefix: put before the name of every layer that the other methods than `append` make.
        """
        self.layers: list[LayerSpec] = []
        self.last, self.channels, self.size = last, channels, size
        self._prefix = prefix

    def append(self, layer: LayerSpec) -> None:
        """Appends a layer that is made already."""
        self.layers.append(layer)
        self.last, self.channels, self.size = layer.name, layer.out_channels, layer.out_size

    def conv(
        self,
        name: str,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        activation: Activation = "none",
        groups: int = 1,
    ) -> None:
        """Appends a convolution with batch normalisation."""
        out_size = conv_output_size(self.size, kernel, stride)
        self.append(
            LayerSpec(
                self._prefix + name, "conv", (self.last,), self.channels, channels, self.size, out_size,
                kernel=kernel, stride=stride, groups=groups, activation=activation, batch_norm=True,
            )
        )  # fmt: skip

    def depthwise(self, name: str, *, kernel: int, stride: int = 1, activation: Activation = "none") -> None:
        """Appends a convolution of each channel by itself, with batch normalisation."""
        self.conv(name, self.channels, kernel=kernel, stride=stride, activation=activation, groups=self.channels)

    def squeeze_excite(self, name: str, squeeze_channels: int, gate: Activation) -> None:
        """Appends channel gates."""
        self.append(
            LayerSpec(
                self._prefix + name, "squeeze_excite", (self.last,), self.channels, self.channels, self.size, self.size,
                activation=gate, squeeze_channels=squeeze_channels,
            )
        )  # fmt: skip

    def add(self, name: str, other: str) -> None:
        """Appends the sum with the feature map of another layer of the same shape."""
        inputs = (self.last, other)
        self.append(LayerSpec(self._prefix + name, "add", inputs, self.channels, self.channels, self.size, self.size))

    def global_pool(self, name: str) -> None:
        """Appends the mean over both spatial axes."""
        self.append(
            LayerSpec(self._prefix + name, "global_pool", (self.last,), self.channels, self.channels, self.size, 1)
        )

    def linear(self, name: str, features: int, activation: Activation = "none") -> None:
        """Appends a matrix product with bias."""
        self.append(
            LayerSpec(self._prefix + name, "linear", (self.last,), self.channels, features, 1, 1, activation=activation)
        )
