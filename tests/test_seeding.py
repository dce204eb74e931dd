"""Seeds: what they are derived from, and what they leave alone."""

import torch

from dfkd_exp.seeding import derive_seed, seeded


def test_a_seed_depends_on_all_that_it_is_for():
    assert derive_seed(0, "group", 1) == derive_seed(0, "group", 1)
    assert (
        len({derive_seed(*parts) for parts in ((0, "group", 1), (0, "group", 2), (1, "group", 1), (0, "group1"))}) == 4
    )


def test_what_is_drawn_within_is_of_the_seed_and_what_comes_after_as_if_it_had_not_been(monkeypatch):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = torch.rand(2)
    for kind in (torch.cuda, torch.xpu):  # whose generators are a run's own
        monkeypatch.setattr(kind, "manual_seed_all", lambda seed: 1 / 0)
    with seeded(7):
        within = torch.rand(2)
    assert torch.equal(within, torch.rand(2, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(torch.cat([first, torch.rand(2)]), expected)


def test_it_is_left_as_it_was_when_something_fails():
    before = torch.get_rng_state()
    try:
        with seeded(7):
            torch.rand(1)
            raise KeyError
    except KeyError:
        assert torch.equal(torch.get_rng_state(), before)
