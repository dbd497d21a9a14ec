"""The contrastive loss of RLFN (winner of NTIRE 2022) and its relative from CSD.

The output (anchor) is to be near the target (positive) and far from the bicubically enlarged input
(negative), in the features of a small network with random weights that is never trained: two 3x3
convolutions with a tanh between, because VGG's deep, sparse features cost PSNR. Anchor, positive
and negative are the authors' (github.com/bytedance/RLFN, issue 9).

Not settled by any source that could be read, hence arguments: the form (ratio as in CSD, bounded
below, by default; difference as in secondary notes on the paper), widths, layer weights, padding,
initialisation (Kaiming here) and the term's weight. A weight of 255 is told of images in 0..255,
which beside L1 on [0, 1] is a weight of 1.

Measured (benchmarks/contrastive.py, three seeds, Set5 PSNR-Y beside equal steps of L1 alone): 100
steps from the released weights cost 9.9 dB at weight 1, 1.9 at 0.01, 0.30 at 0.001 and 0.02 at
0.0001; 300 steps from a young network 6.5 at 1 and 1.06 at 0.01. Part of the ratio's slope only
leads away from the negative, and a network near bicubic follows it. So the default is small, and a
gain was not seen here.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esr.errors import UserError
from esr.losses.arguments import Weight
from esr.losses.weighted import Loss


class RandomFeatures(nn.Module):
    """Conv 3x3 - tanh - conv 3x3 with frozen random weights; returns both layers' features.

    The weights are drawn on the CPU by a generator of their own: they depend on `seed` alone, not
    on the device or on the random numbers of the run. They are buffers that no checkpoint holds.
    """

    first: Tensor
    second: Tensor

    def __init__(
        self,
        widths: Sequence[int] = (3, 3),  # of the two convolutions' outputs
        seed: int = 0,
        padding: int = 0,  # with zeros, of both convolutions, in pixels
        data_range: float = 1.0,  # images in [0, 1] are seen in [0, data_range]
    ):
        super().__init__()
        if len(widths) != 2 or min(widths) < 1:
            raise UserError(f"the extractor takes two widths, such as [3, 3]; got {list(widths)}")
        if data_range <= 0:
            raise UserError(
                f"the extractor needs a positive data_range, such as 1 or 255; got {data_range}"
            )
        generator = torch.Generator("cpu").manual_seed(seed)
        for name, channels, width in (("first", 3, widths[0]), ("second", *widths)):
            kernel = torch.empty(width, channels, 3, 3, device="cpu")
            nn.init.kaiming_normal_(kernel, generator=generator)
            self.register_buffer(name, kernel, persistent=False)
        self.padding, self.data_range = padding, data_range

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map RGB (N, 3, H, W) to the features after the tanh and after the second convolution."""
        x = F.conv2d(x * self.data_range, self.first.to(x.dtype), padding=self.padding)
        shallow = torch.tanh(x)
        return shallow, F.conv2d(shallow, self.second.to(x.dtype), padding=self.padding)


class Contrastive(Loss):
    """Distance to the target relative to the distance to the enlarged input, in random features.

    Distances are mean absolute differences d. Per layer: `d(anchor, positive) / (d(anchor,
    negative) + eps)`, or their difference. Gradients pass through the anchor only.

    RLFN's released weights work on 0..255, where the extractor's tanh is nearly a sign; what its
    training used for `data_range` is not known. With several `negatives` an anchor has those of
    the next images of the batch beside its own enlarged input, and their distances are averaged:
    1 is RLFN's, several are CSD's way.
    """

    def __init__(
        self,
        form: Literal["ratio", "difference"] = "ratio",  # a difference has no bound below
        widths: Sequence[int] = (3, 3),  # the extractor's, like seed, padding and data_range
        layer_weights: Sequence[float] = (1.0, 1.0),
        seed: int = 0,
        padding: int = 0,
        data_range: float = 1.0,
        negatives: int = 1,
        eps: float = 1e-7,  # keeps the ratio finite
        weight: Weight = 1e-4,  # keep it small, above all for a difference
    ):
        super().__init__(weight)
        if form not in ("ratio", "difference"):
            raise UserError(f"contrastive loss: form is 'ratio' or 'difference', got {form!r}")
        if len(layer_weights) != 2:
            raise UserError(f"contrastive loss: two layer weights, got {list(layer_weights)}")
        self.form = form
        self.features = RandomFeatures(widths, seed, padding, data_range)
        self.layer_weights = tuple(layer_weights)
        self.negatives = negatives
        self.eps = eps

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        """Sum over the two layers, weighted.

        Raises:
            UserError: the batch has fewer images than negatives are asked for.
        """
        if len(sr) < self.negatives:
            raise UserError(
                f"contrastive loss: {self.negatives} negatives need a batch of at least as many "
                f"images, got {len(sr)}: set data.batch_size={self.negatives} or more"
            )
        with torch.no_grad():
            enlarged = F.interpolate(lr, size=sr.shape[-2:], mode="bicubic", align_corners=False)
            positive = self.features(hr)
            negative = self.features(enlarged)
        total = sr.new_zeros(())
        for weight, a, p, n in zip(
            self.layer_weights, self.features(sr), positive, negative, strict=True
        ):
            near = F.l1_loss(a, p)
            far = torch.stack(
                [F.l1_loss(a, n.roll(-k, dims=0) if k else n) for k in range(self.negatives)]
            ).mean()
            layer = near / (far + self.eps) if self.form == "ratio" else near - far
            total = total + weight * layer
        return total
