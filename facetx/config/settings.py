"""All settings of a training run, field by field."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from facetx.config.parts import From, Part, Strict

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]


class InputSettings(Strict):
    """What the network expects of its images, in place of the backbone's own contract."""

    color: Literal["RGB", "BGR"] = "RGB"
    """Channel order that the network is fed. Files and batches are RGB always."""
    mean: tuple[float, ...] = (127.5,)
    """Subtracted, in units of 0..255: one number, or one a channel."""
    std: tuple[float, ...] = (127.5,)
    """Divided by, in units of 0..255."""
    alignment: Annotated[str, Field(pattern=r"^[\w.-]{1,40}$")] = "arcface"
    """What the faces are aligned to. "arcface" is InsightFace's template, which evaluations and the live page hold
    images against; another name, such as "celeba" for CelebA's own crops, is noted and held against nothing."""


class BesideSettings(Part):
    """A further data set to train on."""

    crop: bool | Literal["face"] = False
    """As data.crop, for this data set."""
    identities: bool = True
    """As data.identities, for this data set."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of the images of each batch."""


class DataSettings(Part):
    """The training set and how batches are made of it."""

    beside: tuple[Annotated[BesideSettings, From("data.DATASETS")], ...] = ()
    """More data sets, whose images come in the same batches, so that one task may learn one thing of each: identities
    of one and attributes of another, in the task joint. What a set does not know of its images counts for nothing.
    Epochs are passes over the first set; the others begin anew where they end."""
    identities: bool = True
    """Whether its identities are to be learned; else they count as unknown, beside a set whose identities are."""
    sampler: Annotated[Part, From("data.samplers.SAMPLERS")] = Part(name="shuffled")
    """Which items make a batch; of several data sets, which of each."""
    transforms: tuple[Annotated[Part, From("data.transforms.TRANSFORMS")], ...] = ()
    """Augmentations, in order."""
    augment_on: Literal["workers", "device"] = "workers"
    """Who makes them: the processes that read, image by image, or the device, batch by batch, from numbers that the
    processes draw. The numbers are the same; the pixels differ by rounding, and in what is antialiased."""
    crop: bool | Literal["face"] = False
    """Cut images that are not square to the largest square in their middle, which are an error otherwise. "face" cuts
    the face out and turns it upright, by the data's keypoints, with hair and neck about it."""
    cache: bool = False
    """Keep decoded images in memory, shared by the workers: N x H x W x 3 bytes."""
    workers: NotNegative = 2
    """Processes that read and augment. They change speed and nothing else."""
    skip_limit: NotNegative = 10
    """How many unreadable images may be stepped over before the run stops."""


class LoraSettings(Strict):
    """Low-rank adaptation (arXiv 2106.09685): of the backbone, its neck and a correction of some layers are trained."""

    rank: Positive = 8
    """Of the corrections; below the widths of the layers."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """Scale of the corrections, times the rank."""
    patterns: tuple[str, ...] = ("*.qkv", "*.proj")
    """Names of the linear layers to correct, as shell patterns; those of attention by default."""


class ModelSettings(Part):
    """The backbone. Builders of other libraries' networks (timm:*, torchvision:*, efficientnet_b0, effnet_vit) start
    from those libraries' own weights with args.pretrained: true."""

    input: InputSettings | None = None
    """In place of the backbone's own input contract."""
    init_from: str | None = None
    """Weights to start from: a facetx run's folder (its best checkpoint), a checkpoint's folder, or a .safetensors,
    .npz, .pt or .pth file under facetx's own names, or timm's or torchvision's for their backbones. All of them must
    fit, and a checkpoint's network must compute the same. A checkpoint's input contract comes along.
    scripts/import_weights.py makes such a folder of other programs' weights."""
    freeze: tuple[str, ...] = ()
    """Modules that stay as they are, as shell patterns of names in the backbone ("tokens", "encoder.blocks.[0-5]") or
    in what the task publishes: no gradient, and in eval mode, so batch norm keeps its statistics."""
    lora: LoraSettings | None = None
    """Train a small correction of some layers in place of the backbone."""


class HeadSettings(Part):
    """A loss on the embeddings."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor on this loss where several are summed."""


class OptimSettings(Part):
    """The optimizer and what happens around its step."""

    name: str = "adamw"
    lr: Annotated[float, Field(gt=0)]
    """Base learning rate, which the schedule scales."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """On weights only: norms, biases, positions and tokens are not decayed."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Gradients are scaled down to this L2 norm, all together."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor on the learning rate from each block of the backbone to the one before it: 1 for head and neck, this for
    the last block, its square for the block before, and so on down to the tokens. For fine-tuning."""
    accumulate: Positive = 1
    """Parts that a batch is computed in, one after the other, to fit memory. The step is the same, but for batch norm,
    whose statistics are a part's. Losses on pairs, or on statistics of the batch, cost a second forward pass."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a moving average of what the task publishes (its backbone, most often), which is then evaluated too."""


class ScheduleSettings(Part):
    """The learning rate over the steps."""

    name: str = "cosine"
    warmup_steps: NotNegative = 0
    """Steps of linear warm-up before the schedule begins."""


class TrainSettings(Strict):
    """The loop."""

    steps: Positive | None = None
    """Optimizer steps in all. Give either this or epochs."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the data in all, in place of steps."""
    batch_size: Positive
    """Images a step, of all processes together."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Where torchrun starts several processes: each has the whole backbone (DistributedDataParallel), or a part of each
    of its weights (FSDP2), which is slower and for a backbone that does not fit otherwise."""
    sync_batch_norm: bool = False
    """With several processes: batch norm takes its statistics of the images of all, and not of each one's."""
    head_first_steps: NotNegative = 0
    """Steps at the beginning in which the head alone is trained, so that a new one does not spoil good weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the backbone's matrix products. "auto": bf16 on CUDA, fp32 on CPU. Heads are fp32 always."""
    compile: bool | Literal["blocks"] = False
    """torch.compile the backbone: as a whole (true), or the blocks that it repeats, all by one graph, which takes a
    fraction of the time to compile and leaves the rest as it is (blocks)."""
    channels_last: bool = False
    """Weights of convolutions in the layout that they are fastest in: a step of a convolutional network takes two
    thirds of the time on a CPU. Values may differ in their last digits."""
    deterministic: bool = False
    """Deterministic algorithms alone on CUDA too, which are slower: a resumed run then ends bit for bit as an unbroken
    one, as it always does on CPU. An operation that has none is an error."""
    log_every: Positive = 20
    """Steps between two rows of metrics, each the mean over these steps."""
    checkpoint_every: Positive = 500
    """Steps between two checkpoints."""
    keep: Positive = 2
    """How many of the latest checkpoints stay; the best one always does."""
    stop_after_bad_steps: Positive = 20
    """Steps in a row with a loss or gradient that is not finite (each is skipped) after which the run stops."""

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> "TrainSettings":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs, and not both")
        return self


class EvaluatorSettings(Part):
    """A question to ask during training and at its end."""

    data: Annotated[Part, From("data.DATASETS")] | None = None
    """The data set that is asked about, for evaluators that take any; where one gives no size, images are resized to
    the model's."""
    crop: bool | Literal["face"] = False
    """As data.crop, for the evaluator's data."""
    allow_overlap: bool = False
    """Accept identities or images that are trained on too, which is an error otherwise."""
    every: Positive | None = None
    """Steps between two evaluations; at the end only, unless given."""


class Settings(Strict):
    """One training run. Everything that decides a number stands here."""

    name: str
    """Of the run, and of its folder below runs/ unless --run-dir says another."""
    plugins: tuple[str, ...] = ()
    """Modules of one's own that register parts, by dotted name; --import of every script adds one."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the initial weights, the data order, augmentation and dropout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute. "auto" is CUDA where there is one."""
    task: Annotated[Part, From("tasks.TASKS", ("backbone", "data", "head"))] = Part(name="recognition")
    """What is learned."""
    data: Annotated[DataSettings, From("data.DATASETS")]
    model: Annotated[ModelSettings, From("backbones.BACKBONES")]
    head: tuple[Annotated[HeadSettings, From("heads.HEADS", ("embedding_dim", "num_classes"))], ...] = ()
    """The loss on embeddings, or a list of losses that are summed by weight, for a task that takes a head."""
    optim: Annotated[OptimSettings, From("optim.OPTIMIZERS")]
    schedule: Annotated[ScheduleSettings, From("optim.SCHEDULES")] = ScheduleSettings()
    train: TrainSettings
    evaluators: tuple[Annotated[EvaluatorSettings, From("evaluators.EVALUATORS", ("dataset",))], ...] = ()
    select: str | None = None
    """The metric that decides which checkpoint is the best, as "<evaluator>/<value>"; higher is better. Choose one on
    a validation split, never on the benchmark that will be reported."""
