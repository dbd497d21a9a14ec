"""Window attention: the windows are those of the paper, and any image size will do."""

import pytest
import torch

from esr.config import build, compose
from esr.models.parts.transformers import WindowAttention, merge, partition, shift_mask


def by_definition(layer: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Attention pixel by pixel: over those of the same window, cut from a shifted grid."""
    _, height, width, channels = x.shape
    q, k, v = layer.qkv(x[0]).unflatten(-1, (3, layer.heads, -1)).unbind(2)
    out = torch.zeros_like(q)

    def cell(y: int, x: int) -> tuple[int, int]:
        return (y - layer.shift) // layer.size, (x - layer.shift) // layer.size

    places = [(y, x) for y in range(height) for x in range(width)]
    for y, x_ in places:
        near = [(b, a) for b, a in places if cell(b, a) == cell(y, x_)]
        logits = torch.stack([(q[y, x_] * k[b, a]).sum(-1) for b, a in near])
        logits = logits / (channels // layer.heads) ** 0.5
        if layer.bias_table is not None:
            side = 2 * layer.size - 1
            rows = [(y - b + layer.size - 1) * side + x_ - a + layer.size - 1 for b, a in near]
            logits = logits + layer.bias_table[rows]
        values = torch.stack([v[b, a] for b, a in near])
        out[y, x_] = (logits.softmax(0)[..., None] * values).sum(0)
    return layer.proj(out.flatten(2))[None]


@pytest.mark.parametrize("shape", [(1, 6, 9, 2), (2, 3, 3, 4)])
def test_merge_undoes_partition(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    assert torch.equal(merge(partition(x, 3), 3, *shape[1:3]), x)


@pytest.mark.parametrize("position_bias", [True, False])
@pytest.mark.parametrize(("shift", "height", "width"), [(0, 8, 4), (2, 8, 12), (2, 4, 4)])
def test_attends_within_the_windows_of_the_definition(
    shift: int, height: int, width: int, position_bias: bool
) -> None:
    torch.manual_seed(0)
    layer = WindowAttention(6, 2, 4, shift, position_bias=position_bias).double()
    if layer.bias_table is not None:
        torch.nn.init.normal_(layer.bias_table)
    x = torch.randn(1, height, width, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), by_definition(layer, x), rtol=0, atol=1e-12)


def test_images_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    layer, x = WindowAttention(4, 2, 2, shift=1), torch.randn(3, 4, 6, 4)
    with torch.no_grad():
        alone = torch.cat([layer(image[None]) for image in x])
        torch.testing.assert_close(layer(x), alone, rtol=0, atol=1e-6)


def test_a_mask_made_at_inference_serves_training() -> None:
    shift_mask.cache_clear()
    layer, x = WindowAttention(4, 2, 2, shift=1), torch.randn(1, 4, 4, 4)
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert layer.bias_table is not None
    assert layer.bias_table.grad is not None


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(0, 0), (5, 11), (12, 7)])
@pytest.mark.parametrize("name", ["mobilesr", "imdtn", "hnct", "imdeception", "scet"])
def test_networks_with_attention_take_any_size(
    name: str, size: tuple[int, int], scale: int
) -> None:
    net = build(compose("train", [f"model={name}", f"scale={scale}"]).model).eval()
    height, width = (net.min_size + more for more in size)
    with torch.no_grad():
        out = net(torch.rand(1, 3, height, width))
    assert out.shape == (1, 3, scale * height, scale * width)
    assert out.isfinite().all()
