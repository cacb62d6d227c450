"""What a checked text, mapping or number must be is said in one line, everything at once."""

import pytest
from pydantic import Field, model_validator
from saliency_sanity._errors import InputError
from saliency_sanity._schema import Strict, Values, checked


class Fruit(Strict):
    name: str = Field(min_length=1, description="say what it is")
    count: int = Field(1, strict=True, ge=1, description="be a whole number from 1 on")
    tastes: dict[str, int] = Field({}, description="map tastes to numbers")
    more: Values = Field({}, description="map names to values")

    @model_validator(mode="after")
    def _known(self):
        if self.name == "stone":
            raise ValueError("a stone is no fruit")
        return self


def test_what_fits_is_taken():
    fruit = checked(Fruit, {"name": "pear", "more": None})
    assert dict(fruit) == {"name": "pear", "count": 1, "tastes": {}, "more": {}}
    assert checked(Fruit, {"name": "pear", "more": {1: [2]}}).more == {1: [2]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            {"nmae": 1, "name": "pear"},
            r"here: unknown key 'nmae'. Nearest: name, more\. Valid: name, .*",
        ),
        ({}, "here: 'name' is missing; it must say what it is"),
        ({"name": ""}, "here: 'name' is missing; it must say what it is"),
        ({"name": "pear", "count": "2"}, "here: 'count' must be a whole .* from 1 on, not '2'"),
        ({"name": "pear", "count": True}, "here: 'count' must be a whole .* from 1 on, not True"),
        ({"name": "pear", "more": [1]}, r"here: 'more' must map names to values, not \[1\]"),
        (
            {"name": "pear", "tastes": {"sweet": "x"}},
            "here: 'tastes' must map tastes to numbers, not 'x' at sweet",
        ),
        ({"name": "stone"}, "here: a stone is no fruit"),
        (["pear"], r"here must map name, count, tastes, more to their values, not \['pear'\]"),
        (
            {"count": 0, "nmae": 1},
            "here: unknown key 'nmae'.*; 'name' is missing; .*'count' must.*",
        ),
    ],
)
def test_what_does_not_fit_is_named(content, says):
    with pytest.raises(InputError, match=f"^{says}$") as caught:
        checked(Fruit, content, "here")
    assert "\n" not in str(caught.value)
