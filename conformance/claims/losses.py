"""Claims about the two cross-entropies: log(0), identical results, and what clipping does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.claims.article import MEAN_LOSS_LABELS, MEAN_LOSS_LOGITS
from conformance.claims.ask import Ask, exact
from conformance.claims.gaps import HEIGHT, LABELS, Gap, Ladder
from conformance.claims.properties import usual_rows
from conformance.claims.verdicts import DOES_NOT_HOLD, HOLDS, HOLDS_WITHIN, Item, number, slashed
from reference import formats
from reference.formats import F64

__all__ = ["judge"]

_POSITION = {
    "losing": "The right class has a smaller logit",
    "winning": "The right class has the largest logit",
}


def _lost_title(label: str, what: str) -> str:
    return (
        f"{_POSITION[label]}: the gaps from which {what} has lost a digit, half of the digits, "
        "all of them"
    )


def judge(ask: Ask, *, gradients: bool) -> Iterator[Item]:
    """The verdicts on `unstable`, `avoids-log-0`, `identical` and `clipping`.

    Parameters
    ----------
    ask : Ask
    gradients : bool
        Whether gradients are asked for as well (each is one more thing to compile).
    """
    ladder = Ladder(ask)
    yield _unstable(ladder, gradients)
    yield _avoids_log_0(ladder, gradients)
    yield _identical(ladder)
    yield _clipping(ladder)


def _item(ladder: Ladder, claim: str, verdict: str, **rest: Any) -> Item:
    ask = ladder.ask
    return Item(claim, ask.framework, ask.mode, ask.dtype, verdict, **rest)


def _first(gaps: list[Gap | None]) -> Gap | None:
    """The smallest."""
    return min((g for g in gaps if g is not None), key=lambda g: g.bad, default=None)


def _bad(gap: Gap | None) -> float | None:
    return None if gap is None else gap.bad


def _not_finite(ladder: Ladder, method: str, gradients: bool) -> dict[str, Gap | None]:
    found = {"loss": _first([ladder.not_finite(method, label) for label in LABELS])}
    if gradients:
        found["gradient"] = _first([ladder.gradient_not_finite(method, label) for label in LABELS])
    return found


def _digits(ladder: Ladder, method: str) -> dict[str, Any]:
    return {
        label: {name: _bad(gap) for name, gap in ladder.lost(method, label).items()}
        for label in LABELS
    }


def _unstable(ladder: Ladder, gradients: bool) -> Item:
    """The hand-written loss, and its gradient, on (g, 0, 0)."""
    found = _not_finite(ladder, "manual", gradients)
    # Large, but equal: it is the gap that counts, since softmax takes off the largest logit.
    top = ladder.format.max_finite
    equal = np.full((HEIGHT, 3), top)
    target = np.tile([0.0, 1.0, 0.0], (HEIGHT, 1))
    of_equal = float(ladder.ask.value("manual", x=equal, target=target)[0])
    lost = _digits(ladder, "manual")
    more = {_lost_title("losing", "the loss by hand"): slashed(lost["losing"].values())}
    more["All logits equal to the largest number: the loss by hand (log 3 is right)"] = (
        f"{of_equal:.6g}"
    )
    figures = {
        "not_finite": {name: _bad(gap) for name, gap in found.items()},
        "digits_lost": lost,
        "loss_of_equal_logits": of_equal,
        "equal_logits": top,
    }
    first = _first(list(found.values()))
    if first is None:
        return _item(ladder, "unstable", DOES_NOT_HOLD, short="never", figures=figures,
                     more=more, range="no gap makes the loss NaN or infinite")  # fmt: skip
    told = [f"the {name} from gap {number(gap.bad)}" if gap else f"the {name} never"
            for name, gap in found.items()]  # fmt: skip
    loss, gradient = found["loss"], found.get("gradient")
    if loss is not None:
        row = ladder.rows(np.full(HEIGHT, loss.bad), "losing")
        value = ladder.ask.value("manual", **row)[0]
        example = f"logits [{number(loss.bad)}, 0, 0], second class right: loss {number(value)}"
    else:
        assert gradient is not None
        row = ladder.rows(np.full(HEIGHT, gradient.bad), "losing")
        value = ladder.ask.gradient("manual", **row)[0]
        shown = ", ".join(number(float(v)) for v in value)
        example = f"logits [{number(gradient.bad)}, 0, 0]: gradient [{shown}]"
    short = f"{number(loss.bad) if loss else 'never'}"
    if "gradient" in found:
        short += f"/{number(gradient.bad) if gradient else 'never'}"
    return _item(ladder, "unstable", HOLDS, limit=first.bad, short=short, figures=figures,
                 more=more, range=" and ".join(told), counter_example=example)  # fmt: skip


def _avoids_log_0(ladder: Ladder, gradients: bool) -> Item:
    found = _not_finite(ladder, "builtin", gradients)
    first = _first(list(found.values()))
    lost, by_hand = _digits(ladder, "builtin"), _digits(ladder, "manual")
    more = {
        _lost_title("winning", "the built-in"): slashed(lost["winning"].values()),
        _lost_title("winning", "the loss by hand"): slashed(by_hand["winning"].values()),
    }
    figures = {
        "not_finite": {name: _bad(gap) for name, gap in found.items()},
        "digits_lost": lost,
    }
    if first is not None:
        return _item(
            ladder, "avoids-log-0", HOLDS_WITHIN, limit=first.bad, figures=figures, more=more,
            short=f"gap < {number(first.bad)}", range=f"gaps below {number(first.bad)}",
            counter_example=f"logits [{number(first.bad)}, 0, 0]",
        )  # fmt: skip
    digit = lost["winning"]["digit"]
    note = "" if digit is None else (
        f"; with the label on the largest logit it loses digits all the same, from gap "
        f"{number(digit)}, because log(1 + small) does"
    )  # fmt: skip
    return _item(ladder, "avoids-log-0", HOLDS, short="yes", figures=figures, more=more,
                 range=f"every gap up to {number(ladder.format.max_finite)}{note}")  # fmt: skip


def _identical(ladder: Ladder) -> Item:
    """Differences of the two losses: of usual logits in ULP, of wide ones in digits."""
    ask, fmt = ladder.ask, ladder.format
    usual = usual_rows(fmt, 3)
    labels = np.eye(3)[np.arange(HEIGHT) % 3]
    article = np.tile(formats.nearest(fmt, np.array(MEAN_LOSS_LOGITS)), (HEIGHT // 2, 1))
    article_labels = np.tile(MEAN_LOSS_LABELS, (HEIGHT // 2, 1))
    apart, worst = _apart(ask, usual, labels), _apart(ask, article, article_labels)
    row = int(np.argmax(apart))
    gaps = {label: ladder.differ(label) for label in LABELS}
    first = _first(list(gaps.values()))
    figures = {
        "article_ulp": float(np.max(worst)),
        "usual_ulp": float(apart[row]),
        "usual_row": usual[row].tolist(),
        "usual_label": int(np.argmax(labels[row])),
        "usual_equal": int(np.sum(apart == 0)),
        "usual_rows": HEIGHT,
        "differ_from_gap": {label: _bad(gap) for label, gap in gaps.items()},
    }
    more = {
        f"{_POSITION['losing']}: the same": slashed([_bad(gaps["losing"])]),
        "The article's two rows: ULP apart": f"{float(np.max(worst)):.3g}",
        "Usual logits, in [-5, 5]: at most how many ULP apart": f"{float(apart[row]):.3g}",
    }
    example = (
        f"logits {_row(usual[row])}, label {int(np.argmax(labels[row]))}: "
        f"{float(apart[row]):.3g} ULP apart"
    )
    if first is None and not apart.any() and not worst.any():
        return _item(ladder, "identical", HOLDS, short="yes", figures=figures, more=more,
                     range="bit for bit, at every gap")  # fmt: skip
    limit = _bad(first)
    return _item(
        # Compared is the gap with the right class below: with it on top it is the accident of two
        # roundings, which another processor makes differently.
        ladder, "identical", HOLDS_WITHIN, limit=_bad(gaps["losing"]), figures=figures, more=more,
        short="every gap" if limit is None else f"gap < {number(limit)}",
        range=f"to the format's digits for gaps below {number(limit)}" if limit is not None
        else "to the format's digits at every gap, not to the last bit",
        counter_example=example,
    )  # fmt: skip


def _apart(ask: Ask, rows: F64, labels: F64) -> F64:
    """|built-in - by hand| in ULP of the exact loss."""
    refs = exact("softmax_cross_entropy", ask.format, x=rows, target=labels)
    one, other = (ask.value(m, x=rows, target=labels) for m in ("builtin", "manual"))
    return np.asarray(np.abs(one - other) / formats.ulp(ask.format, refs.approximate()[:, 0]))


def _clipping(ladder: Ladder) -> Item:
    lost = _digits(ladder, "clipped")
    limit = lost["losing"]["digit"]
    figures = {
        "digits_lost": lost,
        "not_finite": {n: _bad(g) for n, g in _not_finite(ladder, "clipped", False).items()},
    }
    if limit is None:
        return _item(ladder, "clipping", HOLDS, short="yes", figures=figures)
    row = ladder.rows(np.full(HEIGHT, 2 * limit), "losing")
    value = float(ladder.ask.value("clipped", **row)[0])
    return _item(
        ladder, "clipping", HOLDS_WITHIN, limit=limit, figures=figures,
        short=f"gap < {number(limit)}", range=f"gaps below {number(limit)}",
        counter_example=f"logits [{number(2 * limit)}, 0, 0], second class right: loss "
        f"{number(value)} in place of {number(2 * limit)}",
    )  # fmt: skip


def _row(values: Any) -> str:
    return "[" + ", ".join(f"{float(v):.8g}" for v in np.ravel(values)) + "]"
