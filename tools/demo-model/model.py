"""The demo model: a small Llama in PyTorch, with the tensor names and the RoPE pairing that GGUF's "llama" has.

RoPE turns neighbouring elements (2i, 2i+1), as llama.cpp does for this architecture, so that exporting needs no
permutation of the q and k weights.
"""
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass
class Config:
    vocabulary: int = 3072
    layers: int = 8
    d: int = 256
    ff: int = 1024
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    context: int = 2048
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5


def build(config):
    """The module with random weights. PyTorch is imported here, so that exporting does without it."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(config.d))

        def forward(self, x):
            x32 = x.float()
            return (x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + config.norm_epsilon)).to(x.dtype) * \
                self.weight.to(x.dtype)

    def rotate(x, cos, sin):
        pairs = x.float().unflatten(-1, (-1, 2))
        a, b = pairs[..., 0], pairs[..., 1]
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
            self.attn_norm, self.ffn_norm = Norm(), Norm()
            self.attn_q = nn.Linear(config.d, q, bias=False)
            self.attn_k = nn.Linear(config.d, kv, bias=False)
            self.attn_v = nn.Linear(config.d, kv, bias=False)
            self.attn_output = nn.Linear(q, config.d, bias=False)
            self.ffn_gate = nn.Linear(config.d, config.ff, bias=False)
            self.ffn_up = nn.Linear(config.d, config.ff, bias=False)
            self.ffn_down = nn.Linear(config.ff, config.d, bias=False)

        def forward(self, x, cos, sin):
            batch, length, _ = x.shape
            h = self.attn_norm(x)
            q = self.attn_q(h).view(batch, length, config.heads, config.head_dim).transpose(1, 2)
            k = self.attn_k(h).view(batch, length, config.kv_heads, config.head_dim).transpose(1, 2)
            v = self.attn_v(h).view(batch, length, config.kv_heads, config.head_dim).transpose(1, 2)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            group = config.heads // config.kv_heads
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.attn_output(a.transpose(1, 2).reshape(batch, length, -1))
            h = self.ffn_norm(x)
            return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.token_embd = nn.Embedding(config.vocabulary, config.d)
            self.blk = nn.ModuleList(Block() for _ in range(config.layers))
            self.output_norm = Norm()
            for name, p in self.named_parameters():
                if p.dim() == 2:
                    scale = (2 * config.layers) ** -0.5 if "attn_output" in name or "ffn_down" in name else 1.0
                    nn.init.normal_(p, std=0.02 * scale if "token_embd" in name else scale * config.d ** -0.5 * 0.5)
            frequency = config.rope_theta ** -(torch.arange(0, config.head_dim, 2).float() / config.head_dim)
            angle = torch.arange(config.context).float()[:, None] * frequency
            self.register_buffer("cos", angle.cos(), persistent=False)
            self.register_buffer("sin", angle.sin(), persistent=False)

        def hidden(self, ids):
            x = self.token_embd(ids)
            if torch.is_autocast_enabled(x.device.type):
                x = x.to(torch.get_autocast_dtype(x.device.type))
            cos, sin = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
            for block in self.blk:
                x = block(x, cos, sin)
            return self.output_norm(x)

        def loss(self, hidden, targets, weights):
            """Mean cross-entropy over the tokens, each counted by its weight."""
            logits = F.linear(hidden, self.token_embd.weight)
            each = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
            weights = weights.flatten()
            return (each * weights).sum() / weights.sum()

        def logits(self, hidden):
            return F.linear(hidden, self.token_embd.weight)

    return Model()


# A checkpoint is a folder of a few .npz parts: f32 arrays under their GGUF names, and the shape.

def save_checkpoint(folder, config, arrays, parts=3):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(arrays, key=lambda name: -arrays[name].size)
    for part in range(parts):
        chosen = {name: arrays[name] for name in names[part::parts]}
        chosen["config"] = np.array([asdict(config)[key] for key in asdict(config)], np.float64)
        np.savez(folder / f"part{part}.npz", **chosen)


def load_checkpoint(folder):
    """(config, arrays)"""
    arrays = {}
    for path in sorted(Path(folder).glob("part*.npz")):
        with np.load(path) as part:
            arrays.update({name: part[name] for name in part.files})
    kinds = Config()
    config = Config(*(type(value)(number) for value, number in zip(asdict(kinds).values(), arrays.pop("config"))))
    return config, arrays
