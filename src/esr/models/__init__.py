"""Networks: plain `nn.Module`s, one architecture family a file."""
