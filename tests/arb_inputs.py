"""Inputs to compare on: rows of every family and of random bits, with everything that a map takes.

Deterministic: a batch is a function of map, format, row length and the number of the round.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from reference import cases, formats, ops
from reference.cases.base import Rows, generator
from reference.formats import Format

Key = tuple[str, str, str]
BITS = "random bits"
SOURCES = (*(name for name in cases.FAMILIES if name != "limit_table"), BITS)
"""Where rows come from. Those of limit_table are like some of masks and of infinity_lattice; their
answers are exact, or infinite, and leave Arb nothing to round."""
TANGENTS = ("v_x", "v_y", "v_target", "v_pos_weight")


# ---------------------------------------------------------------- parts of rows


def tangents(fmt: Format, shape: tuple[int, int], rng: np.random.Generator) -> Any:
    """Random, one-hot, constant, small integers, wide spread, row by row in turn."""
    count, n = shape
    normal = rng.standard_normal(shape)
    kinds = np.stack([
        normal,
        np.asarray(np.arange(n) == rng.integers(0, max(n, 1), count)[:, None], float),
        np.broadcast_to(normal[:, :1], shape),
        rng.integers(-2, 3, shape) * 1.0,
        normal * np.exp2(rng.integers(-8, 8, shape)),
    ])  # fmt: skip
    chosen = kinds[rng.integers(0, len(kinds), count), np.arange(count)]
    limit = fmt.max_finite / 16 / max(n, 1)
    return formats.nearest(fmt, np.clip(chosen, -limit, limit))


def second_logits(x: Any, fmt: Format, rng: np.random.Generator) -> Any:
    """Logits beside x: near it, shifted, permuted, or anything."""
    finite = np.where(np.isfinite(x), x, 0.0)
    lowest = -np.inf if fmt.has_infinity else -fmt.max_finite
    kinds = np.stack([
        x + 2.0**-6 * rng.standard_normal(x.shape),
        x + rng.integers(-3, 4, (len(x), 1)),
        rng.permuted(x, axis=1),
        rng.standard_normal(x.shape) * 4,
        np.where(rng.random(x.shape) < 0.2, lowest, finite),
        -finite,
    ])  # fmt: skip
    chosen = kinds[rng.integers(0, len(kinds), len(x)), np.arange(len(x))]
    chosen = np.where(np.isnan(chosen), 0.0, chosen)
    inside = np.clip(chosen, -fmt.max_finite, fmt.max_finite)
    return np.where(np.isinf(chosen), chosen, formats.nearest(fmt, inside))


def complete(key: Key, x: Any, fmt: Format, rng: np.random.Generator) -> dict[str, Any]:
    """Everything that a map takes, for given logits."""
    op, derivative, argument = key
    definition = ops.get(op)
    made: dict[str, Any] = {"x": x}
    shape = x.shape
    if "target" in definition.inputs:
        made["target"] = np.abs(tangents(fmt, shape, rng))
        signed = np.isfinite(x).all(axis=1) & (rng.random(len(x)) < 0.4)
        made["target"][signed] = tangents(fmt, shape, rng)[signed]
    if "label" in definition.inputs:
        made["label"] = rng.integers(0, shape[1], shape[0])
    if "mask" in definition.inputs:
        made["mask"] = (rng.random(shape) < rng.choice([0.3, 0.7, 1.0], (shape[0], 1))) * 1.0
    if "y" in definition.inputs:
        made["y"] = second_logits(x, fmt, rng)
    if derivative != "value":
        g = tangents(fmt, shape, rng)
        made["g"] = g[:, 0] if definition.per_row else g
    if derivative in ("jvp", "hvp"):
        name = argument.rsplit(".", maxsplit=1)[-1]
        made[f"v_{name}"] = tangents(fmt, shape, rng)
    return made


def bits(fmt: Format, shape: Any, rng: np.random.Generator) -> Any:
    """Finite values of random bit patterns."""
    made = formats.from_bits(fmt, rng.integers(0, 1 << fmt.bits, shape, np.uint64))
    return np.where(np.isfinite(made), made, 1.0)


def bit_patterns(fmt: Format, count: int, n: int, rng: np.random.Generator) -> Any:
    """Random bits as logits; half of the rows with gaps that leave something to see."""
    x = bits(fmt, (count, n), rng)
    near = rng.random(count) < 0.5
    x[near] = formats.nearest(fmt, np.clip(x[near], -20, 20))
    return x


# ---------------------------------------------------------------- whole rows


def rows(
    key: Key, fmt: Format, n: int, count: int, number: int, sources: Sequence[str] = SOURCES
) -> dict[str, Any]:
    """``count`` rows of length n from every source, round ``number``."""
    rng = generator(*key, fmt.name, n, number)
    found = [_of_source(source, key, fmt, n, count, number, rng) for source in sources]
    return {name: np.concatenate([made[name] for made in found]) for name in found[0]}


def _of_source(
    source: str, key: Key, fmt: Format, n: int, count: int, number: int, rng: np.random.Generator
) -> dict[str, Any]:
    if source == BITS:
        made = complete(key, bit_patterns(fmt, count, n, rng), fmt, rng)
    else:
        family = _family(source, fmt, n, number)
        chosen = rng.permutation(len(family.x))[:count]
        made = complete(key, family.x[chosen], fmt, rng)
        _adopt(made, family, chosen, rng)
    _make_wild(key, made, fmt, rng)
    return made


@lru_cache(maxsize=512)
def _family(name: str, fmt: Format, n: int, number: int) -> Rows:
    rng = generator(fmt.name, name, n, number)
    return cases.FAMILIES[name].generate("softmax", fmt, n, rng)


def _adopt(made: dict[str, Any], family: Rows, chosen: Any, rng: np.random.Generator) -> None:
    """The family's own targets and labels in half of the rows."""
    half = rng.random(len(chosen)) < 0.5
    for name in ("target", "label"):
        own = getattr(family, name)
        if name in made and own is not None:
            made[name][half] = own[chosen][half]


def _make_wild(key: Key, made: dict[str, Any], fmt: Format, rng: np.random.Generator) -> None:
    """Random bits as cotangents, tangents and second logits in some rows; junk where dropped."""
    count, n = made["x"].shape
    bound = fmt.max_finite / 8 / max(n, 1)
    for name in ("g", *TANGENTS):
        if name in made:
            wild = formats.nearest(fmt, np.clip(bits(fmt, made[name].shape, rng), -bound, bound))
            some = rng.random(count) < 0.25
            made[name][some] = wild[some]
    if "y" in made:
        some = rng.random(count) < 0.25
        made["y"][some] = bit_patterns(fmt, count, n, rng)[some]
    if "mask" in made:
        junk = (made["mask"] == 0) & (rng.random((count, 1)) < 0.5)
        made["x"] = made["x"].copy()
        made["x"][junk] = rng.choice([np.nan, np.inf, -np.inf, fmt.max_finite], junk.sum())


# ---------------------------------------------------------------- elements


@lru_cache(maxsize=64)
def _family_logits(fmt: Format, number: int) -> Any:
    found = [_family(name, fmt, n, number).x.reshape(-1)
             for name in cases.FAMILIES for n in (1, 2, 3, 7, 17)]  # fmt: skip
    pool = np.concatenate([x[np.isfinite(x)] for x in found])
    return generator(fmt.name, "logits", number).permutation(pool)


def elements(fmt: Format, count: int, number: int) -> dict[str, Any]:
    """Inputs of elementwise ops, (1, count): made to hit zeros, near-zeros, ties and far ends."""
    rng = generator(fmt.name, "elements", number)

    def mixed(*kinds: Any) -> Any:
        chosen = rng.integers(0, len(kinds), count)
        values = np.choose(chosen, [np.broadcast_to(k, count) for k in kinds])
        return formats.nearest(fmt, np.clip(values, -fmt.max_finite, fmt.max_finite))

    normal = rng.standard_normal(count)
    far = normal * 10.0 ** rng.integers(-8, 4, count)
    x = mixed(
        np.resize(_family_logits(fmt, number), count), bits(fmt, count, rng),
        normal, 4 * normal, far, 0.0, math.log(2), rng.integers(-40, 40),
    )  # fmt: skip
    with np.errstate(over="ignore"):
        log_gap = -np.log(np.maximum(-np.expm1(np.minimum(x, -1e-3)), 1e-3))
    y = mixed(bits(fmt, count, rng), x, x + normal, x - 20 * normal, -log_gap, normal, -x)
    z = mixed(
        0.0, 1.0, 0.5, rng.random(count), rng.random(count), 1 - fmt.unit_roundoff,
        1 / (1 + np.exp(-np.clip(x, -600, 600))), -1.0, 2.0, normal, 2.0 ** fmt.emin,
    )  # fmt: skip
    w = mixed(1.0, 1.0, 0.0, 2.0, 0.5, 2 * rng.random(count), 1 + 2 * fmt.unit_roundoff,
              (z - 1) / np.where(z == 0, 1, z), -1.0, bits(fmt, count, rng))  # fmt: skip
    made = {"x": x, "y": y, "target": z, "pos_weight": w}
    bound = fmt.max_finite / 8
    for name in ("g", *TANGENTS):
        made[name] = mixed(1.0, rng.standard_normal(count), rng.integers(-7, 8, count) * 1.0,
                           np.clip(bits(fmt, count, rng), -bound, bound))  # fmt: skip
    return {name: values[None] for name, values in made.items()}


def batches(
    key: Key, fmt: Format, lengths: Mapping[int, int], count: int, number: int
) -> Iterator[dict[str, Any]]:
    """A round's batches: as many rows of each length per source, or ``count`` elements."""
    if ops.get(key[0]).elementwise:
        yield elements(fmt, count, number)
    else:
        for n, each in lengths.items():
            yield rows(key, fmt, n, each, number)
