"""Original forms of challenge entries, rebuilt plainly for originals.py to time.

The layers run in the originals' order, with their activations in place, their splits and
concatenations, and share nothing with `esr.models`. Where it is not known how an original worked,
the quicker way is taken. Here are the entries that entries_cpu.py puts near 1.05 or above, and
those that need no more than the same blocks.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Make = Callable[..., nn.Module]

c1 = partial(nn.Conv2d, kernel_size=1)
c3 = partial(nn.Conv2d, kernel_size=3, padding=1)
lrelu = partial(nn.LeakyReLU, 0.05, inplace=True)
relu = partial(nn.ReLU, inplace=True)
silu = partial(nn.SiLU, inplace=True)


class Form(nn.Module):
    """Layers under their official names and the function that runs them."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **layers: nn.Module):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Whatever the function does."""
        return self.run(self, x)


def cat(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors, dim=1)


def masked(m: Any, x: Tensor, context: Tensor, skip: Tensor) -> Tensor:
    context = F.interpolate(context, x.shape[2:], mode="bilinear", align_corners=False)
    return x * torch.sigmoid(m.conv4(context + skip))


def esa(n: int, f: int, skip: bool = True, point: Make = c1, conv: Make = c3, act: Make = relu):
    def run(m: Any, x: Tensor) -> Tensor:
        s = m.conv1(x)
        t = F.max_pool2d(m.conv2(s), kernel_size=7, stride=3)
        t = m.act(m.conv3(m.act(m.conv_max(t))))
        return masked(m, x, m.conv3_(t), m.conv_f(s))

    layers = {"conv1": point(n, f), "conv_f": point(f, f) if skip else nn.Identity()}
    layers |= {"conv2": nn.Conv2d(f, f, 3, stride=2), "conv4": point(f, n), "act": act()}
    return Form(run, **layers, conv_max=conv(f, f), conv3=conv(f, f), conv3_=conv(f, f))


def atb(n: int):
    def run(m: Any, x: Tensor) -> Tensor:
        a, b = torch.chunk(x, 2, dim=1)
        a = a * torch.sigmoid(m.ATB_12(m.act(m.ATB_11(a))))
        return cat(a, b * torch.sigmoid(m.ATB_21(m.act(m.ATB_22(b)))))

    layers = {f"ATB_{name}": c3(n, n) for name in ("11", "12", "21", "22")}
    return Form(run, **layers, act=nn.LeakyReLU(0.1, inplace=True))


def pixel_attention(n: int):
    return Form(lambda m, x: x * torch.sigmoid(m.conv(x)), conv=c1(n, n))


class Linear(nn.Linear):
    """Over the channels of an image."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, n, H, W) -> (N, m, H, W)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GELU(nn.GELU):
    """On the view in which the channels that a linear layer leaves are contiguous."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, n, H, W) -> the same shape."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def bsconv(n: int, m: int):
    return Form(lambda b, x: b.dw(b.pw(x)), pw=Linear(n, m), dw=c3(m, m, groups=m))


def rfdb(
    n: int,
    kept: int,
    attention: nn.Module,
    residual: bool = True,
    dilations: Sequence[int] = (1, 1, 1),
    act: Make = lrelu,
    conv: Make = c3,
    point: Make = c1,
):
    stages = range(1, len(dilations) + 1)

    def run(m: Any, x: Tensor) -> Tensor:
        parts = []
        for k in stages:
            parts.append(m.act(m.get_submodule(f"c{k}_d")(x)))
            r = m.get_submodule(f"c{k}_r")(x)
            x = m.act(r + x) if residual else m.act(r)
        return m.esa(m.c5(cat(*parts, m.act(m.c4(x)))))

    layers = {f"c{k}_d": point(n, kept) for k in stages}
    for k, d in zip(stages, dilations, strict=True):
        layers[f"c{k}_r"] = conv(n, n) if d == 1 else conv(n, n, padding=d, dilation=d)
    layers |= {"c4": conv(n, kept), "c5": point((len(stages) + 1) * kept, n)}
    return Form(run, **layers, esa=attention, act=act())


def bsdb(n: int, kept: int, f: int):
    def run(m: Any, x: Tensor) -> Tensor:
        return m.conv_out(m.body(x) * m.cw.view(1, -1, 1, 1)) + x

    gate = esa(n, f, True, Linear, bsconv, GELU)
    body = rfdb(n, kept, gate, act=GELU, conv=bsconv, point=Linear)
    block = Form(run, body=body, conv_out=Linear(n, n))
    block.cw = nn.Parameter(torch.ones(1, n))
    return block


def arfdb():
    def crossed(m: Any, k: int, x: Tensor) -> Tensor:
        l1, l2, m1, m2 = (m.get_submodule(f"c{k}_{name}") for name in ("l1", "l2", "m1", "m2"))
        return l2(m.act(l1(x))) + m2(m.act(m1(x)))

    def run(m: Any, x: Tensor) -> Tensor:
        d1 = m.act(m.c0_d(x))
        r = m.act(crossed(m, 1, x) + d1)
        d2 = m.act(m.c1_d(r))
        r = m.act(crossed(m, 2, r) + r + d2 + d1)
        d3 = m.act(m.c2_d(r))
        r = m.act(crossed(m, 3, r) + r + d3 + d2 + d1)
        return m.esa(m.c5(cat(d1, d2, d3, m.act(m.c4(r)))))

    tall = partial(nn.Conv2d, kernel_size=(3, 1), padding=(1, 0))
    flat = partial(nn.Conv2d, kernel_size=(1, 3), padding=(0, 1))
    layers = {"c4": c3(25, 25), "c5": c1(100, 50), "esa": esa(50, 12), "act": lrelu()}
    for k, n in enumerate((50, 25, 25), start=1):
        layers |= {f"c{k - 1}_d": c1(n, 25), f"c{k}_l1": tall(n, 25), f"c{k}_l2": flat(25, 25)}
        layers |= {f"c{k}_m1": flat(n, 25), f"c{k}_m2": tall(25, 25)}
    return Form(run, **layers)


def alpan_block():
    def run(m: Any, x: Tensor) -> Tensor:
        kept = [x]
        for conv, gate in zip(m.convs, m.esa, strict=True):
            x = gate(m.act(conv(x) + x))
            kept.append(x)
        return m.esa_last(m.conv_last(cat(*kept)))

    convs = nn.ModuleList(c3(32, 32) for _ in range(3))
    gates = nn.ModuleList(esa(32, 16) for _ in range(3))
    last = {"conv_last": c1(128, 32), "esa_last": esa(32, 16)}
    return Form(run, convs=convs, esa=gates, **last, act=lrelu())


def msdb(n: int, f: int, stride: int):
    def gate(m: Any, x: Tensor) -> Tensor:
        s = m.conv1(x)
        return masked(m, x, m.LKA(m.gelu(m.pool(s))), s)

    def run(m: Any, x: Tensor) -> Tensor:
        d1, r = m.act(m.c1_d(x)), m.act(m.c1_r(m.act(m.c1_e(x))))
        d2, r = m.act(m.c2_d(r)), m.act(m.c2_r(r))
        return m.esa(m.c4(cat(d1, d2, m.act(m.c3(r)))))

    wide = nn.Conv2d(f, f, 7, padding=9, dilation=3, groups=f)
    lka = nn.Sequential(wide, nn.Conv2d(f, f, 5, padding=2, groups=f), c1(f, f))
    pool = nn.MaxPool2d(2 * stride + 1, stride)
    attention = Form(gate, conv1=c1(n, f), conv4=c1(f, n), LKA=lka, pool=pool, gelu=nn.GELU())
    layers = {"c1_d": c1(n, n // 2), "c1_e": c1(n, 2 * n), "c1_r": c3(2 * n, n, groups=2)}
    layers |= {"c2_d": c1(n, n // 2), "c2_r": c3(n, n), "c4": c1(3 * n // 2, n)}
    layers |= {"c3": c3(n, n // 2, padding=2, dilation=2)}
    return Form(run, **layers, esa=attention, act=silu())


def tail(n: int, **options):
    return nn.Sequential(c3(n, 48, **options), nn.PixelShuffle(4))


def esan_block():
    def run(m: Any, x: Tensor) -> Tensor:
        return m.ESA(m.conv2(F.relu(m.conv1(x), inplace=True))) + x

    return Form(run, conv1=c3(32, 32), conv2=c3(32, 32), ESA=esa(32, 8, skip=False))


def esan():
    def run(m: Any, x: Tensor) -> Tensor:
        return m.upconv0(x) + m.upconv(m.recon_trunk(m.conv_first(x)))

    blocks = nn.Sequential(*(esan_block() for _ in range(16)))
    return Form(run, conv_first=c3(3, 32), recon_trunk=blocks, upconv0=tail(3), upconv=tail(32))


def fused(n: int, *blocks: nn.Module, act: Make = lrelu, copies: int = 1, **changed: nn.Module):
    """Head, blocks, their outputs fused, a convolution, the long skip, tail."""

    def run(m: Any, x: Tensor) -> Tensor:
        y = fea = m.fea_conv(x.repeat(1, copies, 1, 1) if copies > 1 else x)
        outputs = []
        for block in m.B:
            y = block(y)
            outputs.append(y)
        return m.upsampler(m.LR_conv(m.act(m.c(cat(*outputs)))) + fea)

    layers = {"fea_conv": c3(3, n), "B": nn.ModuleList(blocks), "c": c1(len(blocks) * n, n)}
    layers |= {"act": act(), "LR_conv": c3(n, n), "upsampler": tail(n)}
    return Form(run, **layers | changed)


def rfdn(n: int, f: int, *dilations: int, residual: bool = True, skip: bool = True):
    blocks = (rfdb(n, n // 2, esa(n, f, skip), residual, dilations or (1, 1, 1)) for _ in range(4))
    return fused(n, *blocks)


def repafdn():
    blocks = [rfdb(48, 24, esa(48, 12), False, (1, 1)) for _ in range(3)]
    last = rfdb(48, 12, esa(48, 12), False)
    return fused(48, *blocks, last, LR_conv=nn.Sequential(c3(48, 48), pixel_attention(48)))


def afdn():
    conv, point = partial(c3, bias=False), partial(c1, bias=False)
    blocks = (rfdb(46, 23, atb(23), conv=conv, point=point) for _ in range(4))
    layers = {"fea_conv": conv(3, 46), "LR_conv": conv(46, 46), "upsampler": tail(46, bias=False)}
    return fused(46, *blocks, **layers)


def clrfdn():
    blocks = [rfdb(32, 16, esa(32, 8), False, act=silu) for _ in range(4)]
    for block in blocks:  # activated twice
        block.c4 = nn.Sequential(block.get_submodule("c4"), silu())
    return fused(32, *blocks, act=nn.PReLU, LR_conv=nn.Identity())


def bsrn():
    blocks = (bsdb(48, 24, 12) for _ in range(5))
    layers = {"fea_conv": bsconv(12, 48), "c": Linear(240, 48), "LR_conv": bsconv(48, 48)}
    return fused(48, *blocks, act=GELU, copies=4, **layers)


ORIGINALS: dict[str, Callable[[], nn.Module]] = {
    "rfdn": lambda: rfdn(50, 12),
    "rfdn_tieguodun": lambda: rfdn(50, 12),
    "rfdn40": lambda: rfdn(40, 10),
    "rfdn_pruned": lambda: rfdn(40, 12, residual=False),
    "rfdn_dilated": lambda: rfdn(64, 16, 1, 2, 5),
    "sfdn": lambda: rfdn(50, 12, residual=False, skip=False),
    "repafdn": repafdn,
    "afdn": afdn,
    "clrfdn": clrfdn,
    "bsrn": bsrn,
    "esan": esan,
    "alpan": lambda: fused(32, *(alpan_block() for _ in range(4))),
    "msdn": lambda: fused(56, *(msdb(56, 7, stride) for stride in (4, 3, 2)), act=silu),
    "arfdn": lambda: fused(
        50, *(arfdb() for _ in range(4)), act=partial(nn.LeakyReLU, 0.1, inplace=True)
    ),
}

EVERYWHERE = [(r"\.conv3x3", ""), (r"^c\.0", "c"), (r"^c\.1", "act")]
NAMES = {
    "repafdn": [("^LR_conv", "LR_conv.0"), ("^pa", "LR_conv.1")],
    "clrfdn": [(r"\.c4", ".c4.0")],
    "afdn": [("ATB.ATB", "esa.ATB")],
    "bsrn": [
        (r"^(B\.\d)\.(?!cw|conv_out)", r"\1.body."),
        (r"^c1", "c"),
        (r"^c2", "LR_conv"),
        (r"\.upsampleOneStep", ""),
    ],
    "esan": [
        (r"conv3_1", "conv_max"),
        (r"conv3_2", "conv3"),
        (r"conv3_3", "conv3_"),
        (r"^upconv0", "upconv0.0"),
        (r"(conv_first|recon_trunk)\.0", r"\1"),
    ],
    "alpan": [(r"\.conv(\.\w+)$", r"\1"), ("^mods", "B")],
    "msdn": [
        (r"^C\.0\.0", "c"),
        (r"^C\.1", "LR_conv"),
        (r"c1_r\.0\.0", "c1_e"),
        (r"c1_r\.1\.0", "c1_r"),
        (r"(c\d(_[dr])?)\.0", r"\1"),
        (r"attention\.head", "esa.conv1"),
        (r"attention\.tail", "esa.conv4"),
        ("attention", "esa"),
    ],
    "arfdn": [("mpa", "esa")],
}
"""Official names (regular expressions) and what stands for them here."""


def original(slug: str, official: Mapping[str, Tensor]) -> nn.Module:
    """The original's form of an entry with the weights of an official state dict."""
    state = {}
    for key, value in official.items():
        key = re.sub(r"^B([1-9])", lambda found: f"B.{int(found[1]) - 1}", key)
        for pattern, name in EVERYWHERE + NAMES.get(slug, []):
            key = re.sub(pattern, name, key)
        state[key] = value
    form = ORIGINALS[slug]()
    form.load_state_dict(state)
    return form.eval()
