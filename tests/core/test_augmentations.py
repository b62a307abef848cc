import pytest
import torch

from skdim._core.augmentations import AUGMENTATIONS


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def inputs(name, n=40, dtype=torch.float32):
    shape = (n, 3, 9, 8) if AUGMENTATIONS[name].for_images else (n, 6)
    return torch.randn(shape, generator=generator(1), dtype=dtype)


def augmented(name, x, strength=None, seed=0):
    kind = AUGMENTATIONS[name]
    near = [x.roll(1, 0)] if kind.needs_neighbors else []
    strength = kind.strength if strength is None else strength
    return kind.augment(x, *near, strength, generator(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_views_keep_shape_and_type_and_leave_their_input_alone(name, dtype):
    x = inputs(name, dtype=dtype)
    before = x.clone()
    view = augmented(name, x)
    assert view.shape == x.shape and view.dtype == dtype
    assert torch.isfinite(view).all()
    assert torch.equal(x, before) and not torch.equal(view, x)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_views_repeat_by_seed_and_spare_the_global_generator(name):
    x, before = inputs(name), torch.random.get_rng_state()
    assert torch.equal(augmented(name, x), augmented(name, x))
    assert not torch.equal(augmented(name, x), augmented(name, x, seed=1))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_strength_0_changes_nothing_and_more_changes_more(name):
    x = inputs(name, n=200)
    if AUGMENTATIONS[name].for_images:  # smooth ones, that change little if moved a bit
        x = torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2)
    torch.testing.assert_close(augmented(name, x, 0.0), x, atol=1e-5, rtol=0)
    little, much = ((augmented(name, x, s) - x).square().mean() for s in (0.1, 0.8))
    assert 0 < little < much


def test_marginal_keeps_the_values_of_each_column():
    x = inputs("marginal")
    view = augmented("marginal", x, 1.0)
    for column, seen in zip(x.T, view.T, strict=True):
        assert set(seen.tolist()) <= set(column.tolist())
    assert (view == x).float().mean() < 0.2  # independent draws, cell by cell


def test_swap_replaces_the_share_of_cells_that_was_asked_for():
    x = inputs("neighbors", n=2000)
    near = x.roll(1, 0)
    view = augmented("neighbors", x, 0.3)
    assert ((view == x) | (view == near)).all()
    assert (view == near).float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_shift_moves_whole_images_by_whole_pixels():
    x = torch.zeros(50, 1, 9, 9)
    x[:, :, 4, 4] = 1
    view = augmented("shift", x, 0.34)  # up to 3 pixels
    assert (view.flatten(1).sum(1) == 1).all()
    rows, columns = view.squeeze(1).nonzero()[:, 1:].T
    assert rows.min() == columns.min() == 1 and rows.max() == columns.max() == 7


def test_flip_mirrors_about_the_share_that_was_asked_for():
    x = inputs("flip", n=1000)
    view = augmented("flip", x, 0.5)
    same = (view == x).all(dim=(1, 2, 3))
    mirrored = (view == x.flip(3)).all(dim=(1, 2, 3))
    assert (same | mirrored).all()
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_erase_blanks_one_box():
    x = torch.ones(100, 2, 10, 12)
    blank = augmented("erase", x, 0.5) == 0
    assert torch.equal(blank[:, 0], blank[:, 1])
    rows, columns = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(blank[:, 0].sum((1, 2)), rows * columns)
    assert rows.max() <= 5 and columns.max() <= 6 and rows.max() > 2


def test_crop_shows_a_part_of_the_image():
    ramp = torch.linspace(0, 1, 20).expand(60, 1, 20, 20)
    view = augmented("crop", ramp, 0.75)
    width = (view[:, 0, 0, -1] - view[:, 0, 0, 0]).abs()
    assert view.min() >= 0 and view.max() <= 1
    assert width.min() < 0.65 and width.max() > 0.85


def test_affine_turns_images_that_are_not_square_without_distortion():
    # A disc stays a disc of the same size if it is only turned and moved.
    row, column = torch.meshgrid(
        torch.arange(24) - 11.5, torch.arange(72) - 35.5, indexing="ij"
    )
    disc = (row.square() + column.square() < 64).float().expand(40, 1, 24, 72)
    half = disc * (column > 0)  # turned, it reaches beyond its half
    turned = augmented("affine", half, 0.3)
    spreads = []
    for image in turned[:, 0]:
        mass = image / image.sum()
        mean = (mass * row).sum(), (mass * column).sum()
        spreads.append(
            (mass * ((row - mean[0]) ** 2 + (column - mean[1]) ** 2)).sum().sqrt()
        )
    spreads = torch.stack(spreads)
    still = augmented("affine", half, 0.0)[0, 0]
    assert (turned[:, 0, :, :36].sum((1, 2)) > still[:, :36].sum() + 5).any()
    # Zoom is at most exp(0.12) and shear 0.12, far from the ratio 72 / 24 of the sides.
    assert spreads.min() > 3.2 and spreads.max() < 5.6


def test_affine_moves_and_turns():
    bar = torch.zeros(200, 1, 21, 21)
    bar[:, :, 10, 4:17] = 1
    view = augmented("affine", bar, 0.5)[:, 0]
    position = torch.arange(21) - 10.0
    mass = view / view.sum((1, 2), keepdim=True)
    right, down = (mass.sum(a) @ position for a in (1, 2))
    assert right.std() > 0.5 and down.std() > 0.5
    slope = torch.einsum("nij,i,j->n", mass, position, position) - right * down
    assert (slope > 3).any() and (slope < -3).any()


def test_blur_mixes_with_the_pixels_around_only():
    x = torch.zeros(30, 1, 9, 9)
    x[:, :, 4, 4] = 9
    view = augmented("blur", x, 0.8)[:, 0]
    share = view[:, 3, 3]
    assert share.max() > 0.4 and share.max() <= 0.8
    torch.testing.assert_close(view[:, 4, 4], 9 - 8 * share)
    assert (view[:, 3:6, 3:6].sum((1, 2)) - view.sum((1, 2))).abs().max() < 1e-5


def test_color_keeps_edges_where_they_are():
    # It is affine in the pixels of each image, so a flat image stays flat.
    flat = torch.ones(20, 3, 5, 5) * torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1)
    view = augmented("color", flat)
    assert view.std((2, 3)).max() < 1e-5
