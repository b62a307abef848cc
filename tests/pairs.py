"""Pairs of known mutual information, and samples of them."""

import math

import torch


def gaussian_pair(n, sigma, d, seed=0):
    g = torch.Generator().manual_seed(seed)
    u = torch.randn(n, d, generator=g, dtype=torch.float64)
    return u, u + sigma * torch.randn(n, d, generator=g, dtype=torch.float64)


# A symmetric channel of 4 symbols: each arrives unchanged with probability 0.85.
TRANSITION = torch.full((4, 4), 0.05, dtype=torch.float64).fill_diagonal_(0.85)
INFORMATION = math.log(4) + (TRANSITION[0] * TRANSITION[0].log()).sum().item()


def discrete_pair(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(4, (n,), generator=g)
    return x, torch.multinomial(TRANSITION[x], 1, generator=g)[:, 0]
