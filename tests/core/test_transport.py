"""The final map is invertible, comes close, and leaves alone what is chance."""

import numpy as np
import pytest
import torch

from skdim._core.memory import Memory
from skdim._core.transport import FINAL_MAPS, Transport
from skdim.metrics import bhep_test, sample_floor, sliced_wasserstein_distance

MAPS = ["gentle", "close"]


def draw(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def bent(n, seed=0):
    """Return rows of mean 0 and variance 1 that are far from N(0, I): a banana."""
    z = draw(n, 3, seed)
    x = torch.stack([z[:, 0], z[:, 1] / 2 + z[:, 0].square() / 2**0.5, z[:, 2]], 1)
    return (x - torch.tensor([0, 0.5**0.5, 0])) / torch.tensor([1, 1.25**0.5, 1])


def fitted(c, kind="gentle", memory=None, **options):
    transport = Transport(c.shape[1], kind, **options)
    transport.fit(c, torch.Generator().manual_seed(0), memory or Memory())
    return transport


def ratio(codes):
    codes = np.asarray(codes)
    floor = sample_floor(sliced_wasserstein_distance, *codes.shape)
    return sliced_wasserstein_distance(codes) / floor


@pytest.mark.parametrize("kind", MAPS)
def test_held_out_codes_come_close(kind):
    transport, test = fitted(bent(4000), kind), bent(2000, seed=1)
    assert ratio(test) > 4
    assert ratio(transport(test)) < 1.5
    assert bhep_test(test[:1000]).pvalue < 1e-6


def test_a_close_map_passes_the_test_of_normality():
    turn = torch.linalg.qr(draw(8, 8, seed=5)).Q

    def waves(n, seed):
        c = draw(n, 8, seed) @ turn
        return (c + 0.4 * torch.sin(1.5 * c.roll(1, 1))) @ turn.T / 1.08**0.5

    tests = [waves(1000, seed) for seed in range(1, 8)]
    assert np.median([bhep_test(test).pvalue for test in tests]) < 1e-6
    transport = fitted(waves(6000, seed=0), "close")
    assert np.median([bhep_test(transport(test)).pvalue for test in tests]) > 0.01


@pytest.mark.parametrize("kind", list(FINAL_MAPS))
@pytest.mark.parametrize("whitens", [False, True])
def test_the_inverse_and_the_log_determinant_are_exact(kind, whitens):
    transport = fitted(bent(2000), kind, whitens=whitens).double()
    c = torch.cat([bent(200, seed=2), torch.tensor([[50.0, -3, 0], [-9, 9, 80]])])
    c = c.double()
    codes = transport(c)
    torch.testing.assert_close(transport.inverse(codes), c, atol=1e-9, rtol=1e-9)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: transport(row[None])[0]))
    far = c[-50:]
    expected = torch.linalg.slogdet(jacobian(far))[1]
    torch.testing.assert_close(transport.log_det(far), expected)


@pytest.mark.parametrize("kind", MAPS)
def test_codes_do_not_depend_on_other_rows(kind):
    transport, c = fitted(bent(2000), kind), bent(300, seed=3)
    one_by_one = torch.cat([transport(row[None]) for row in c])
    torch.testing.assert_close(transport(c), one_by_one, atol=1e-4, rtol=0)
    double = transport.double()(c.double()).float()
    torch.testing.assert_close(one_by_one, double, atol=1e-3, rtol=0)


@pytest.mark.parametrize("n", [50, 500, 5000])
@pytest.mark.parametrize("d", [1, 16])
def test_draws_from_the_target_hardly_move(n, d):
    transport, c = fitted(draw(n, d)), draw(2000, d, seed=1)
    moved = (transport(c) - c).square().mean().sqrt()
    assert moved < 0.5 / n**0.5


def test_few_rows_are_not_matched_exactly():
    # Their own distribution is mostly chance, and other rows do not share it.
    few = draw(100, 4)
    close = fitted(few, "close")
    assert ratio(close(draw(2000, 4, seed=1))) < 2.5
    torch.testing.assert_close(fitted(few[:19], "close")(few), few)


@pytest.mark.parametrize(
    "c",
    [
        torch.zeros(500, 3),
        torch.cat([draw(500, 2), torch.zeros(500, 1)], 1),
        torch.sign(draw(500, 3)),
        draw(500, 3).sign() * torch.tensor([1.0, 0.01, 30]),
        draw(500, 1).exp().pow(4),
    ],
    ids=["constant", "constant component", "discrete", "scales", "heavy"],
)
@pytest.mark.parametrize("kind", MAPS)
def test_codes_that_cannot_be_normal(c, kind):
    transport = fitted(c, kind).double()
    codes = transport(c.double())
    assert torch.isfinite(codes).all()
    # Equal codes are not pulled apart without end.
    beside = transport(c.double() + 1e-7)
    assert (beside - codes).norm(dim=1).max() < 1e3 * 1e-7
    assert torch.isfinite(transport(torch.full_like(codes, 1e30))).all()


@pytest.mark.parametrize("kind", MAPS)
def test_codes_of_few_values_are_not_moved_farther_away(kind):
    values = draw(12, 4, seed=7)
    picks = torch.randint(12, (3000,), generator=torch.Generator().manual_seed(8))
    c = values[picks]
    c = (c - c.mean(0)) / c.std(0)
    assert ratio(fitted(c, kind)(c)) < 1.02 * ratio(c)


def test_the_order_of_the_rows_does_not_matter():
    # A quarter needs no map; as the first rows, they alone would be looked at.
    blobs = 0.99 * draw(6000, 4, seed=1).sign() + 0.14 * draw(6000, 4, seed=2)
    c = torch.cat([draw(2000, 4), blobs])
    assert ratio(fitted(c, "close")(c)) < ratio(c) / 2


def test_few_rows_of_a_stream_do_not_switch_layers_off():
    memory, transport = Memory(), Transport(3, "gentle")
    for i in range(40):
        transport.fit(bent(64, seed=i), torch.Generator().manual_seed(i), memory)
        memory.add(64)
        assert i < 10 or transport.shifts[80:].any(), i


def test_equal_rows_stay_equal_and_order_is_kept_in_one_dimension():
    c = draw(1000, 1).exp()
    codes = fitted(c - c.mean(), "close")((c - c.mean()).sort(0)[0])
    assert (codes.diff(dim=0).abs() > 0).float().mean() > 0.99
    assert (codes.diff(dim=0).sign().unique().numel()) <= 2


def test_another_seed_turns_other_ways_but_ends_in_the_same_place():
    c, test = bent(4000), bent(500, seed=1)
    one, two = fitted(c), Transport(3, "gentle")
    two.fit(c, torch.Generator().manual_seed(7), Memory())
    assert not torch.allclose(one.rotations, two.rotations)
    assert (one(test) - two(test)).square().mean().sqrt() < 0.1


def test_a_last_turn_rotates_codes():
    transport, c = fitted(bent(2000)), bent(100, seed=1)
    before = transport(c)
    turn = torch.linalg.qr(draw(3, 3, seed=4)).Q
    transport.turn(turn)
    torch.testing.assert_close(transport(c), before @ turn, atol=1e-5, rtol=0)
    back = transport.inverse(before @ turn)
    torch.testing.assert_close(back, c, atol=1e-3, rtol=0)


def test_a_stream_is_averaged_and_keeps_its_rotations():
    memory, transport = Memory(), Transport(3, "gentle")
    for i in range(20):
        transport.fit(bent(200, seed=i), torch.Generator().manual_seed(i), memory)
        memory.add(200)
        if not i:
            transport.turn(torch.linalg.qr(draw(3, 3, seed=4)).Q)
            first = transport.rotations.clone(), transport.turned.clone()
    assert torch.equal(transport.rotations, first[0])
    assert torch.equal(transport.turned, first[1])
    c = bent(500, seed=98)
    correlation = torch.corrcoef(torch.cat([c @ first[1].float(), transport(c)], 1).T)
    assert correlation.diagonal(3).min() > 0.8  # components mean what they did
    test = bent(2000, seed=99)
    assert ratio(transport(test)) < 0.6 * ratio(fitted(bent(200))(test))


def test_whitening_is_for_codes_of_any_mean_and_covariance():
    mix = torch.tensor([[3.0, 1, 0], [0, 0.1, 0], [1, 0, 2]])
    c, test = bent(4000) @ mix + 5, bent(2000, seed=1) @ mix + 5
    assert ratio(fitted(c, whitens=True)(test)) < 1.5


def test_the_map_is_no_part_of_training():
    transport = Transport(3, "close").train()
    assert not transport.training
    assert not list(transport.parameters())
