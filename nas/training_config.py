"""The parts of the experiment file that say how networks are trained: for their accuracy, and when finished."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from search_spaces.typed_yaml import FileModel

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(FileModel):
    """How a network, or a supernet, is trained; ``accuracy`` and ``finish`` have these options each for itself.

    Attributes:
        epochs: passes over the training split.
        batch_size: images a step.
        learning_rate: peak, under a cosine schedule with warm-up; the default suits a few hundred steps of AdamW and
            networks like those of ``tiny``, large networks want a tenth of it.
        weight_decay: of the optimizer; norms and biases have none.
        warmup_fraction: share of the steps with rising learning rate.
        label_smoothing: of the loss against the labels.
        optimizer: ``adamw`` or ``sgd`` (Nesterov momentum 0.9; it wants another learning rate).
        ema: decay of an exponential moving average of the weights, which is what the training ends with; 0 for none.
            Between .99 and .9999; early steps count less (`nas.training.average`).
        mixup: alpha of mixup (Zhang et al., arXiv:1710.09412); 0 for none.
        cutmix: alpha of CutMix (Yun et al., arXiv:1905.04899); 0 for none. Where both are on, each batch gets one.
        random_augment: strength of two random operations on each image, 0 to 1, after RandAugment (Cubuk et al.,
            arXiv:1909.13719); 0 for none.
        accumulate: parts that a batch is computed in, one after the other, so that larger batches fit in memory. Batch
            norm sees the parts, and each part draws its own subnets.
    """

    _unwritten: ClassVar[frozenset[str]] = frozenset(
        {"optimizer", "ema", "mixup", "cutmix", "random_augment", "accumulate"}
    )
    """Fields that are left out where they have their default: options that there were not from the start."""

    epochs: Count = 16
    batch_size: Count = 32
    learning_rate: Annotated[float, Field(gt=0)] = 4e-2
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    ema: Share = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    random_augment: Annotated[float, Field(ge=0, le=1)] = 0.0
    accumulate: Count = 1

    @model_validator(mode="after")
    def _parts_of_a_batch(self) -> Self:
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate must be at most batch_size, got {self.accumulate} of {self.batch_size}")
        return self

    @model_serializer(mode="wrap")
    def _without_unused_options(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        # Runs and ledgers of a time before an option existed stay those of an experiment that does not use it.
        fields: dict[str, object] = dump(self)
        return {
            name: value
            for name, value in fields.items()
            if name not in self._unwritten or value != type(self).model_fields[name].default
        }


class AccuracyConfig(TrainingConfig):
    """The training behind ``accuracy``, and what holds for finishing too, which has no such fields.

    Attributes:
        augment: random shifts and, where `data.flip` allows it, mirroring; in finishing too.
        threads: CPU threads of training and distillation. Networks for small images gain nothing from a second one,
            and lose much where another process wants its core.
        checkpoint_seconds: at most this much training is lost when the process is killed; in finishing too.
        bf16: whether a GPU computes in bfloat16 where that is safe, in finishing too; a CPU never does, it is slower
            with it.
    """

    _unwritten: ClassVar[frozenset[str]] = TrainingConfig._unwritten | {"bf16"}

    augment: bool = True
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 20.0
    bf16: bool = True


class SupernetConfig(AccuracyConfig):
    """Accuracy from a weight-sharing supernet trained once: ``accuracy: {method: supernet}``.

    Attributes:
        random_subnets: subnets sampled a step beside the largest and the smallest (sandwich rule); the labels teach
            the largest one only.
        calibration_images: training images whose statistics batch norm uses in an evaluated subnet.
        attentive: which of several random subnets of like arithmetic is trained, the ``best`` or the ``worst`` of this
            step's batch (`nas.training.attentive`); null for any.
        attentive_candidates: how many are compared; each costs a forward pass.
        workers: processes that train together (Ray Train, as `ray` says: one GPU each where ``gpus_per_worker`` is
            above 0), each on its part of every batch; batch norm sees the parts.
    """

    _unwritten: ClassVar[frozenset[str]] = AccuracyConfig._unwritten | {"attentive", "attentive_candidates", "workers"}

    method: Literal["supernet"] = "supernet"
    random_subnets: Annotated[int, Field(ge=0)] = 2
    calibration_images: Count = 256
    attentive: Literal["best", "worst"] | None = None
    attentive_candidates: Annotated[int, Field(ge=2)] = 3
    workers: Annotated[int, Field(ge=1, le=1024)] = 1

    @model_validator(mode="after")
    def _every_worker_has_images(self) -> Self:
        if self.workers * self.accumulate > self.batch_size:
            raise ValueError(
                f"batch_size must be at least workers times accumulate, got {self.batch_size} for "
                f"{self.workers * self.accumulate} parts"
            )
        return self


class EarlyStoppingConfig(FileModel):
    """Asynchronous successive halving (ASHA; Li et al., arXiv:1810.05934) among networks of like latency.

    After ``min_epochs``, and at every ``reduction_factor`` times as many epochs, a network goes on only where it is
    among the best ``1 / reduction_factor`` of those of its latency band that came so far.

    Attributes:
        min_epochs: that every network gets.
        reduction_factor: between one decision and the next, in epochs and in networks.
        latency_ratio: width of a band: its slowest network takes this many times as long as its fastest.
    """

    min_epochs: Count = 4
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    latency_ratio: Annotated[float, Field(gt=1)] = 1.25


class StandAloneConfig(AccuracyConfig):
    """Accuracy from training every candidate by itself: ``accuracy: {method: stand_alone}``.

    Attributes:
        early_stopping: null trains every candidate to the end; it needs `ray.executor: ray`.
        compile: whether torch.compile makes the network faster; it takes a minute or more for each one, needs a C++
            compiler on a CPU, and pays where a training takes much longer. Results differ by rounding. A supernet
            changes its shape in every step and gains nothing, so it has no such option.
    """

    _unwritten: ClassVar[frozenset[str]] = AccuracyConfig._unwritten | {"compile"}

    method: Literal["stand_alone"] = "stand_alone"
    early_stopping: EarlyStoppingConfig | None = None
    compile: bool = False

    @model_validator(mode="after")
    def _decides_before_the_end(self) -> "StandAloneConfig":
        if self.early_stopping and self.early_stopping.min_epochs >= self.epochs:
            raise ValueError(
                f"early_stopping.min_epochs must be less than epochs, got {self.early_stopping.min_epochs} of "
                f"{self.epochs}"
            )
        return self


class FinishConfig(TrainingConfig):
    """The finishing stage. Subnets of a supernet are fine-tuned with the options of `TrainingConfig`, set here.

    Networks that the search has trained by themselves keep their weights.

    Attributes:
        models: how many points of the front are finished when none is named.
        temperature: of distillation (Hinton et al., arXiv:1503.02531) from the largest subnet.
        distillation_weight: share of the loss that comes from the teacher.
        calibration_images: training images that set INT8 ranges.
        max_int8_accuracy_drop: an INT8 file that loses more test accuracy than this, as a fraction, is refused.
    """

    _unwritten: ClassVar[frozenset[str]] = TrainingConfig._unwritten | {
        "batch_size",
        "weight_decay",
        "warmup_fraction",
        "label_smoothing",
    }

    models: Count = 3
    epochs: Count = 20
    batch_size: Count = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    temperature: Annotated[float, Field(gt=0)] = 2.0
    distillation_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    calibration_images: Count = 256
    max_int8_accuracy_drop: Annotated[float, Field(ge=0, lt=1)] = 0.01
