"""Parsing by task reward: masks are sampled, and those that are worth more become likelier (arXiv 2302.08242)."""

from typing import Literal, Unpack

import torch
from torch import Tensor

from facetx.data.base import Description
from facetx.data.sample import IGNORED
from facetx.errors import ConfigError
from facetx.heads.precision import true_float32
from facetx.nn.backbone import Backbone
from facetx.registry import parameters
from facetx.tasks.base import Batch
from facetx.tasks.mask_losses import LossName
from facetx.tasks.parsing import DecoderArgs, Parsing, pixel_accuracy
from facetx.tasks.rewards import REWARDS, MeanOver, counts, rewards

Baseline = Literal["second", "leave_one_out", "none"]
Credit = Literal["image", "class", "pixel"]


class ParsingReward(Parsing):
    """Tunes a network that was trained by likelihood (``model.init_from``, a run of the task ``parsing``) on a reward.

    The network says how likely each class is at each pixel; masks y are drawn pixel by pixel, and the gradient of the
    expected reward E[R(y)] is followed by REINFORCE (Pinto et al., arXiv 2302.08242):
    (R(y) - R(y')) grad log p(y), with another mask y' for the baseline. Dropout is off, and statistics of batch norm
    stay, so that masks are drawn from the very distribution whose log-probability is taken.

    The research note's own code is ``reward: f1_pixels, over: batch, log_prob: mean``. It differs from the defaults,
    which follow the paper, in three ways. It takes w times the *number* of false positives from an F1 of at most 1. It
    has one reward for the whole batch, so that an image is praised for what others did. It takes the mean of the
    log-probabilities over the pixels in place of their sum, which divides the gradient by the number of pixels. For two
    classes, of which the second counts, it is that code number by number, its 1e-6 apart.

    Args:
        backbone, data: Of ``Parsing``.
        reward: A name in ``facetx.REWARDS``: "f1", "pq", "f1_pixels", "iou", or one of your own.
        reward_args: Of the reward, such as {w: 0.3}.
        samples: n, masks an image whose log-probability is taken.
        baseline: "second", a second mask for each one, as in the paper; "leave_one_out", the mean of the n - 1 others,
            which uses each mask twice; or "none".
        credit: Which pixels a reward is held against. "image" is REINFORCE: all of them. "pixel": of each pixel the
            exact expectation over its own classes, the others as drawn, which the counts give at once (local
            expectation gradients, Titsias and Lazaro-Gredilla, NeurIPS 2015); it needs no baseline, and its variance
            is far smaller. "class": a class's reward against the pixels that it was drawn at or is labeled at; a
            heuristic, whose mean is not the gradient of the reward.
        over: A reward for each "image", or one for the "batch", of the counts of all its images.
        log_prob: "sum" over the pixels, or their "mean".
        normalize: Divides what is above the baseline by its standard deviation: over the masks of each "image", or, for
            credit "class", over those of all images for each "class". It weighs images or classes anew.
        mean_over: The reward is the mean over the classes that the mask or the sample has ("either"), so that a single
            pixel of a class that is not there costs a class's share; or over those of the mask ("labeled"), so that it
            costs no more than a pixel of its own class.
        background: Whether the background's reward counts too.
        ml_weight: Of the loss of ``Parsing``, which is added.
        loss, class_weights, gamma, decoder: Of ``Parsing``, for ``ml_weight``.

    Raises ``ConfigError`` for arguments out of range or that do not go together, and as ``Parsing`` does.
    """

    def __init__(
        self,
        backbone: Backbone,
        data: Description,
        reward: str = "f1",
        reward_args: dict[str, float] | None = None,
        samples: int = 1,
        baseline: Baseline = "second",
        credit: Credit = "image",
        over: Literal["image", "batch"] = "image",
        log_prob: Literal["sum", "mean"] = "sum",
        normalize: Literal["image", "class"] | None = None,
        mean_over: MeanOver = "either",
        background: bool = False,
        ml_weight: float = 0.0,
        loss: LossName = "cross_entropy_dice",
        class_weights: dict[str, float] | None = None,
        gamma: float = 2.0,
        **decoder: Unpack[DecoderArgs],
    ):
        super().__init__(backbone, data, loss, class_weights, gamma, **decoder)
        if samples < 1 or ml_weight < 0:
            raise ConfigError(f"samples must be at least 1 and ml_weight at least 0, got {samples} and {ml_weight}")
        if baseline == "leave_one_out" and samples < 2 and credit != "pixel":
            raise ConfigError("baseline leave_one_out: needs at least 2 samples, of which each has another")
        if normalize == "image" and (samples < 2 or credit == "pixel"):
            raise ConfigError("normalize image: needs at least 2 samples and the credit image or class")
        if normalize == "class" and credit != "class":
            raise ConfigError(f"normalize class: goes with the credit class, not with {credit}")
        args, known = reward_args or {}, parameters(REWARDS[reward])
        if unknown := [name for name in args if name not in known]:
            raise ConfigError(f"reward_args: {reward} takes {', '.join(known) or 'none'}, and not {unknown[0]}")
        self.reward = REWARDS.create(reward, **args)
        self.samples, self.baseline, self.credit, self.over = samples, baseline, credit, over
        self.log_prob, self.normalize = log_prob, normalize
        self.mean_over: MeanOver = mean_over
        self.background = background
        self.ml_weight = ml_weight
        self.train()

    def train(self, mode: bool = True) -> "ParsingReward":
        """Stays in evaluation mode: what is sampled and what is scored must be one distribution."""
        return super().train(False)

    @property
    def parts_are_independent(self) -> bool:
        return self.over == "image" and self.normalize != "class"

    def embed(self, batch: Batch) -> Tensor:
        """What ``loss`` needs of each part of a batch: the logits (B, M, H, W)."""
        return self.logits(batch)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.loss(self.embed(batch), batch)

    def loss(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """ "loss", whose gradient is that of -reward, up to what is drawn; "reward", the mean; and "accuracy"."""
        mask = batch["mask"].long()
        with true_float32(logits.device):
            drawn = sampled(logits, self.draws)
            loss, reward = self.policy_loss(logits, mask, drawn)
            if self.ml_weight:
                loss = loss + self.ml_weight * self.criterion(logits, mask)
            return {"loss": loss, "reward": reward, "accuracy": pixel_accuracy(logits.detach(), mask)}

    @property
    def draws(self) -> int:
        """Masks an image that are drawn in all."""
        return self.samples * (2 if self.baseline == "second" and self.credit != "pixel" else 1)

    def policy_loss(self, logits: Tensor, mask: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """The loss whose gradient is the estimate, and the mean reward.

        Args:
            logits: (B, M, H, W).
            mask: (B, H, W) int64.
            drawn: (S, B, H, W), ``draws`` masks of each image.
        """
        if self.credit == "pixel":
            return self._of_pixels(logits, mask, drawn)
        own = self._rewards(*counts(drawn, mask.expand(drawn.shape), logits.shape[1]))  # (S, B or 1, M)
        total = own.sum(-1)  # (S, B or 1)
        above = self._above_baseline(own if self.credit == "class" else total)  # (n, B or 1) or (n, B or 1, M)
        log_p = logits.log_softmax(1)
        losses = []
        for mine, y in zip(above.float(), drawn):
            score = torch.gather(log_p, 1, y[:, None]).squeeze(1)  # (B, H, W)
            weight = mine[:, None, None] if self.credit == "image" else self._of_own_classes(mine, y, mask)
            losses.append(-self._over_images(weight * score, mask))
        return torch.stack(losses).mean(), total.mean().float()

    def _rewards(self, tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
        """Counts (..., B, M) -> parts of the reward (..., B, M), or (..., 1, M) of the whole batch."""
        if self.over == "batch":
            tp, fp, fn = (count.sum(-2, keepdim=True) for count in (tp, fp, fn))
        return self._worth(tp, fp, fn)

    def _worth(self, tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
        return rewards(self.reward, tp, fp, fn, self.background, self.mean_over)

    def _above_baseline(self, own: Tensor) -> Tensor:
        """(S, ...) rewards -> (n, ...) less their baseline."""
        n = self.samples
        if self.baseline == "second":
            own = own[:n] - own[n:]
        elif self.baseline == "leave_one_out":
            own = (own - own.mean(0)) * n / (n - 1)  # = own - the mean of the others
        if self.normalize is None:
            return own
        over = (0, 1) if self.normalize == "class" else 0
        return own / own.std(over, correction=0, keepdim=True).clamp(min=1e-8)

    def _of_own_classes(self, mine: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """(B or 1, M) -> (B, H, W): of each pixel the sum over the class that was drawn and the one that is labeled."""
        rows = mine.expand(len(y), -1)
        known = mask.masked_fill(mask == IGNORED, 0)
        of_drawn, of_label = (torch.gather(rows, 1, index.flatten(1)).view_as(index) for index in (y, known))
        return of_drawn + of_label.masked_fill(y == known, 0)

    def _over_images(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W) -> a scalar: the sum over an image's labeled pixels, or their mean; the mean over the images.

        Of a reward that all images share, the sum over the images where it is that over the pixels.
        """
        known = mask != IGNORED
        total = values.masked_fill(~known, 0).sum((1, 2))
        if self.log_prob == "mean":
            return (total / known.sum((1, 2)).clamp(min=1)).mean()
        return total.sum() if self.over == "batch" else total.mean()

    def _of_pixels(self, logits: Tensor, mask: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Of each pixel the expected reward over its own classes, all others as they were drawn.

        Which reward another class at a pixel would give follows from the counts, and hangs on the pixel's label, the
        class that was drawn and that other class alone: a table of M^3 numbers an image.
        """
        classes = logits.shape[1]
        p = logits.softmax(1)
        known = mask.masked_fill(mask == IGNORED, 0)
        losses, totals = [], []
        for y in drawn:
            count = counts(y, mask, classes)
            totals.append(self._rewards(*count).sum(-1).mean())
            gain = self._gains(*count).flatten(1, 2).float()  # (B, M * M, M): what another class would add
            row = (known * classes + y).flatten(1)[..., None].expand(-1, -1, classes)  # (B, H * W, M)
            of_pixel = torch.gather(gain.expand(len(y), -1, -1), 1, row)
            expected = (p.flatten(2).transpose(1, 2) * of_pixel).sum(-1).view_as(y)
            losses.append(-self._over_images(expected, mask))
        return torch.stack(losses).mean(), torch.stack(totals).mean().float()

    def _gains(self, tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
        """Counts (B, M) -> (B, label, drawn, other): what the reward gains by another class at one such pixel.

        (1, ...) of a reward over the batch.
        """
        if self.over == "batch":
            tp, fp, fn = (count.sum(0, keepdim=True) for count in (tp, fp, fn))
        m = tp.shape[1]
        unit = torch.eye(m, device=tp.device, dtype=tp.dtype)
        right = unit[:, :, None]  # (label, class, 1): whether the class is the label
        hit, miss = right * unit[None], (1 - right) * unit[None]  # (label, class, k): what a pixel adds to tp and to fp
        step_tp = hit[:, None] - hit[:, :, None]  # (label, drawn, other, k)
        step_fp = miss[:, None] - miss[:, :, None]
        a, b, c = (  # none of what no pixel is of is below 0
            (count[:, None, None, None] + step).clamp(min=0)
            for count, step in ((tp, step_tp), (fp, step_fp), (fn, -step_tp))
        )
        return self._worth(a, b, c).sum(-1) - self._worth(tp, fp, fn).sum(-1)[:, None, None, None]


@torch.no_grad()
def sampled(logits: Tensor, count: int) -> Tensor:
    """Logits (B, M, H, W) -> masks (count, B, H, W), each pixel drawn by its own probabilities.

    By the Gumbel-max trick: the class with the largest logit + Gumbel noise.
    """
    draws = [(logits - torch.empty_like(logits).exponential_().log()).argmax(1) for _ in range(count)]
    return torch.stack(draws)
