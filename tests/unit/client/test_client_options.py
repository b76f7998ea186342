"""The client passes on the options that a collection takes: for editors, for `help` and at run time."""

from __future__ import annotations

import inspect

import pytest

import icehouse
from icehouse import _options

SHARED = {
    "load": _options.LoadOptions,
    "plan": _options.PlanOptions,
    "point": _options.PointOptions,
    "inventory": _options.InventoryOptions,
    "seed": _options.SeedOptions,
    "refresh": _options.JobOptions,
    "truncate": _options.JobOptions,
}


def options(method):
    return {
        name: parameter
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize("name", SHARED)
def test_the_type_names_what_the_collection_takes(name):
    taken = {
        option: parameter.annotation
        for option, parameter in options(getattr(icehouse.Collection, name)).items()
    }
    assert {
        option: annotation.__forward_arg__ for option, annotation in SHARED[name].__annotations__.items()
    } == taken


def test_load_like_takes_what_load_takes_but_the_object_itself():
    assert set(_options.LoadLikeOptions.__annotations__) == set(options(icehouse.Collection.load)) - {"like"}


@pytest.mark.parametrize("name", SHARED)
def test_help_shows_the_options_and_defaults_of_the_collection(name):
    of_client, of_collection = getattr(icehouse.Client, name), getattr(icehouse.Collection, name)
    assert options(of_client) == options(of_collection)
    positional = [word for word in inspect.signature(of_client).parameters if word not in options(of_client)]
    assert [word for word in positional if word != "collection"] == [
        word for word in inspect.signature(of_collection).parameters if word not in options(of_collection)
    ]


@pytest.mark.parametrize("name", [*SHARED, "load_like"])
def test_an_unknown_option_is_refused_before_anything_is_sent(name):
    client = icehouse.Client("http://127.0.0.1:9", "grid-32m")  # no daemon listens at port 9
    for call in (getattr(client, name), getattr(client["grid-32m"], name)):
        with pytest.raises(TypeError, match="band_"):
            call(None, band_="dem")
