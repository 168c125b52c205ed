"""Providers: their limits, and what those come to."""

from __future__ import annotations

import base64

import pytest

from bake.providers import EVERYWHERE, PROVIDERS, Provider

KNOWN = [provider for provider in PROVIDERS.values() if provider.limit is not None]


@pytest.mark.parametrize("provider", KNOWN, ids=lambda provider: provider.name)
def test_a_document_of_the_capacity_is_taken_and_one_of_more_is_not(provider: Provider) -> None:
    def sent(size: int) -> int:
        return len(base64.b64encode(bytes(size))) if provider.base64 else size

    assert provider.limit is not None
    assert sent(provider.capacity) <= provider.limit < sent(provider.capacity + 1)


def test_what_fits_everywhere_fits_every_one() -> None:
    assert min(provider.capacity for provider in PROVIDERS.values()) == EVERYWHERE


def test_where_nobody_states_a_limit_the_smallest_is_kept() -> None:
    unknown = [provider for provider in PROVIDERS.values() if provider.limit is None]
    assert unknown
    assert {provider.capacity for provider in unknown} == {EVERYWHERE}


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_each_goes_by_its_name_and_says_where_its_figure_is_from(name: str) -> None:
    provider = PROVIDERS[name]
    assert provider.name == name
    assert len(provider.source) > 5
    assert provider.remark == "" or provider.remark.endswith(".")
