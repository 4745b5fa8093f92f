"""The judge: metrics to figures, and figures to grade and breaches. Pure functions.

Figures are measurements: the same under every policy. Grade, verdict and the breach of accuracy
follow from figures under a `conformance.policy.Policy`, also from those of an old record.

A breach has a kind; those of special values name the class of the row too
(``nan@one_plus_inf``), so that a documented deviation can be exactly as wide as what it documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance import curves, policy
from conformance.policy import Policy
from reference import metrics, ops
from reference.bounds import Bounds, constants
from reference.cases import Case
from reference.formats import F64, Format
from reference.metrics import Errors, Underflow
from reference.oracle import References

BEYOND = 1.01
"""Test ratio above which figures count a sign as wrong, a zero as lost and an infinity near the
overflow threshold as one. Part of what these figures mean, and not of the policy."""


@dataclass(frozen=True)
class Breach:
    """One way in which a cell broke the contract.

    Attributes
    ----------
    kind : str
        ``accuracy``, ``nan@CLASS``, ``inf@CLASS``, ``premature``, ``dtype``, ``shape``,
        ``mutates_inputs``, ``reused``, ``leak``, ``error``, ``crash``, ``timeout``.
    case_id : str
        The worst case of this kind.
    detail : str
    figure : float
        The worst test ratio for ``accuracy``, otherwise how many elements (cases).
    """

    kind: str
    case_id: str
    detail: str
    figure: float

    def row(self) -> dict[str, Any]:
        """As a record holds it."""
        return {
            "kind": self.kind,
            "case_id": self.case_id,
            "detail": self.detail,
            "figure": self.figure,
        }

    @classmethod
    def of_row(cls, told: Mapping[str, Any]) -> Breach:
        """The inverse of `row`, of a record that may lack some of it."""
        figure = told.get("figure")
        return cls(
            kind=told.get("kind") or "unknown",
            case_id=told.get("case_id") or "",
            detail=told.get("detail") or "",
            figure=1.0 if figure is None else figure,
        )


@dataclass(frozen=True, eq=False)
class Answered:
    """Rows of one length that an implementation answered.

    Attributes
    ----------
    cases : sequence of Case or Situation
        One for each row; the rows of a situation all have it.
    references : References
    bounds : Bounds
    result : ndarray (cases, k)
        Results as float64.
    kinds : ndarray of str (cases, k), optional
        What kind of input each result is of; None for what `case_class` makes of the cases.
    """

    cases: Sequence[Any]
    references: References
    bounds: Bounds
    result: F64
    kinds: NDArray[np.str_] | None = None

    def kind(self, row: int, index: int) -> str:
        """What kind of input a result is of, for the names of special-value breaches."""
        if self.kinds is not None:
            return str(self.kinds[row, index])
        return case_class(self.cases[row], index)

    def one_kind(self, row: int) -> bool:
        """Whether all results of a row are of one kind."""
        return self.kinds is not None or not ops.get(self.cases[row].op).elementwise


@dataclass(eq=False)
class Judgement:
    """Figures, grade and breaches of a cell, before deviations are looked at."""

    figures: dict[str, Any] = field(default_factory=dict)
    grade: str | None = None
    breaches: list[Breach] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    evidence: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of the cases that were asked for: ``ratio`` and ``normwise``, and under ``broken`` how many
    elements are NaN or infinite where they must not be."""

    @property
    def verdict(self) -> str:
        """Under the policy of this version."""
        return policy.load().verdict(self.grade, (b.kind for b in self.breaches))


def case_class(case: Case, index: int) -> str:
    """What kind of input a result is of, for the names of special-value breaches.

    Of an elementwise op its own element counts; of a masked row what is kept. Second logits that
    are not finite are named after the first: ``finite.y_some_minus_inf``.
    """
    definition = ops.get(case.op)
    found = []
    for name in ("x", "y"):
        if name in case.inputs:
            row = np.asarray(case.inputs[name])
            if definition.elementwise:
                found.append(element_class(float(row[index])))
            elif "mask" in case.inputs:
                kept = row[np.asarray(case.inputs["mask"]) != 0]
                found.append(row_class(kept) if kept.size else "nothing_kept")
            else:
                found.append(row_class(row))
    second = [f"y_{name}" for name in found[1:] if name != "finite"]
    return ".".join([found[0], *second])


def element_class(x: float) -> str:
    """What kind of number this is."""
    if np.isnan(x):
        return "nan_input"
    return "finite" if np.isfinite(x) else "plus_inf" if x > 0 else "minus_inf"


def row_class(x: F64) -> str:
    """What kind of row this is."""
    plus = int((x == np.inf).sum())
    if np.isnan(x).any():
        return "nan_input"
    if plus:
        return "one_plus_inf" if plus == 1 else "several_plus_inf"
    minus = int((x == -np.inf).sum())
    if minus == x.size:
        return "all_minus_inf"
    return "some_minus_inf" if minus else "finite"


def judge(
    fmt: Format,
    answered: Sequence[Answered],
    underflow: Underflow,
    *,
    role: str = "subject",
    witnesses: Collection[str] = (),
    rules: Policy | None = None,
) -> Judgement:
    """Judge the answers of one cell.

    Parameters
    ----------
    fmt : Format
    answered : sequence of Answered
        By row length.
    underflow : Underflow
        The implementation's measured underflow policy.
    role : str
        A control must be bit-equal to the correctly rounded reference on every element.
    witnesses : collection of str
        Case ids whose own figures are wanted as evidence.
    rules : Policy, optional
        Default: that of this version.
    """
    out = Judgement()
    parts = [_Part(rows, underflow) for rows in answered]
    if not parts:
        return out
    rules = policy.load() if rules is None else rules
    out.figures = _figures(fmt, parts, underflow)
    out.grade = rules.grade(fmt, out.figures)
    for part in parts:
        out.evidence |= part.evidence(witnesses)
    out.breaches += _special_breaches(parts)
    if rules.inaccurate(fmt, out.figures):
        out.breaches.append(_accuracy_breach(fmt, rules, out.figures, parts))
    if underflow.flushes and out.figures["flushed"]:
        out.flags.append(underflow.policy)
    if any(part.answers_undefined() for part in parts):
        out.flags.append("answers_undefined")
    if role == "control":
        wrong = sum(int((~part.errors.correct).sum()) for part in parts)
        if wrong:
            worst = next(p for p in parts if not p.errors.correct.all())
            row = int(np.flatnonzero(~worst.errors.correct.all(axis=1))[0])
            out.breaches.append(
                Breach("control", worst.rows.cases[row].case_id,
                       f"{wrong} elements are not bit-equal to the reference", float(wrong))
            )  # fmt: skip
    return out


class _Part:
    """One length of a cell, measured."""

    def __init__(self, rows: Answered, underflow: Underflow) -> None:
        self.rows = rows
        refs, bounds, result = rows.references, rows.bounds, rows.result
        self.errors: Errors = metrics.errors(result, refs)
        self.explained = metrics.explained(result, refs, bounds, underflow)
        self.ulp = np.where(self.explained, 0.0, self.errors.ulp)
        self.weak = self._ratio(bounds.weak)
        self.pairwise = self._ratio(bounds.pairwise)
        self.strong = self._ratio(bounds.strong)
        # An infinity for a result near the overflow threshold is an error of a few ulps.
        specials = ~(refs.finite | refs.undefined | refs.nan)
        self.infinite = self.errors.infinite & (specials | (self.weak > BEYOND))
        infinite_wrong_sign = specials & np.isinf(result) & (self.errors.ulp > 0)
        self.infinite = self.infinite | infinite_wrong_sign
        self.finite = refs.finite & ~self.errors.nan & ~self.infinite
        self.normwise = metrics.normwise(self.errors, refs, bounds, self.finite & ~self.explained)

    def measured(self) -> curves.Measured:
        """For the curves: a special value is right or infinitely wrong."""
        wrong = self.errors.nan | self.infinite

        def total(figure: F64) -> F64:
            return np.where(wrong, np.inf, np.where(self.finite, figure, 0.0))

        placed = self.rows.kinds is None
        return curves.Measured(self.rows.cases, total(self.ulp), total(self.weak), placed)

    def _ratio(self, bound: NDArray[np.longdouble]) -> F64:
        return np.where(self.explained, 0.0, self.errors.ratio(bound))

    def worst(self, figure: F64) -> tuple[float, int, int]:
        """The largest value of a figure over the finite elements, with its place."""
        masked = np.where(self.finite, figure, -1.0)
        if masked.size == 0:
            return -1.0, 0, 0
        row, index = np.unravel_index(int(np.argmax(masked)), masked.shape)
        return float(masked[row, index]), int(row), int(index)

    def evidence(self, case_ids: Collection[str]) -> dict[str, dict[str, float]]:
        """The figures of single cases."""
        wrong = self.errors.nan | self.infinite
        weak = np.where(self.finite, self.weak, 0.0)
        found: dict[str, dict[str, float]] = {}
        for row, case in enumerate(self.rows.cases):
            if case.case_id in case_ids:
                own = found.setdefault(case.case_id, {"ratio": 0.0, "normwise": 0.0, "broken": 0})
                own["ratio"] = max(own["ratio"], float(weak[row].max(initial=0.0)))
                own["normwise"] = max(own["normwise"], float(self.normwise[row]))
                own["broken"] += int(wrong[row].sum())
        return found

    def answers_undefined(self) -> bool:
        """Did it give a number where the contract leaves the answer open?"""
        return bool((self.rows.references.undefined & ~np.isnan(self.rows.result)).any())


def _accuracy_breach(
    fmt: Format, rules: Policy, figures: Mapping[str, Any], parts: Sequence[_Part]
) -> Breach:
    """Where the finite results are furthest beyond the bound."""
    ratio, row, index, part = _argworst(parts, "weak")
    case = part.rows.cases[row]
    detail = (
        f"element {index}: {_number(part.rows.result[row, index])} is "
        f"{part.ulp[row, index]:.3g} ULP from the exact value, {ratio:.3g} times the bound; "
        f"normwise error {figures['normwise']:.2g}"
    )
    return Breach("accuracy", case.case_id, detail, rules.size(fmt, figures))


def _special_breaches(parts: Sequence[_Part]) -> list[Breach]:
    """NaN and infinity mismatches, grouped by the class of their row."""
    first: dict[str, tuple[_Part, int, int]] = {}
    hits: Counter[str] = Counter()
    for part in parts:
        for kind, mask in (("nan", part.errors.nan), ("inf", part.infinite)):
            for row in np.flatnonzero(mask.any(axis=1)).tolist():
                each = np.flatnonzero(mask[row]).tolist()
                one_class = part.rows.one_kind(row)
                for index in each[:1] if one_class else each:
                    name = f"{kind}@{part.rows.kind(row, index)}"
                    first.setdefault(name, (part, row, index))
                    hits[name] += len(each) if one_class else 1
    out = []
    for kind, (part, row, index) in sorted(first.items()):
        expected = part.rows.references.rounded()[row, index]
        detail = (
            f"{hits[kind]} elements; element {index}: {_number(part.rows.result[row, index])} "
            f"where {_number(expected)} is right"
        )
        out.append(Breach(kind, part.rows.cases[row].case_id, detail, float(hits[kind])))
    return out


def _argworst(parts: Sequence[_Part], figure: str) -> tuple[float, int, int, _Part]:
    found = [(*p.worst(getattr(p, figure)), p) for p in parts]
    return max(found, key=lambda f: f[0])


def _number(value: Any) -> str:
    return f"{float(value):.9g}"


# ---------------------------------------------------------------- figures


def _figures(fmt: Format, parts: Sequence[_Part], underflow: Underflow) -> dict[str, Any]:
    ulp = np.concatenate([p.ulp[p.finite] for p in parts])
    correct = sum(int(p.errors.correct.sum()) for p in parts)
    elements = sum(p.errors.ulp.size for p in parts)
    beyond = [p.finite & (p.weak > BEYOND) for p in parts]
    used = constants(fmt)["weak"]
    figures = {
        "cases": sum(len({c.case_id for c in p.rows.cases}) for p in parts),
        "elements": elements,
        "max_ulp": float(ulp.max(initial=0.0)),
        "p99_ulp": float(np.quantile(ulp, 0.99, method="higher")) if ulp.size else 0.0,
        "mean_ulp": float(np.mean(ulp.astype(np.longdouble))) if ulp.size else 0.0,
        "correctly_rounded": correct / elements if elements else 1.0,
        "normwise": max(float(p.normwise.max(initial=0.0)) for p in parts),
        "ratio_weak": max(0.0, _argworst(parts, "weak")[0]),
        "ratio_pairwise": max(0.0, _argworst(parts, "pairwise")[0]),
        "ratio_strong": max(0.0, _argworst(parts, "strong")[0]),
        "constants": {"P": used.exp, "L": used.log, "recursive": int(used.recursive)},
        "nan_mismatches": sum(int(p.errors.nan.sum()) for p in parts),
        "inf_mismatches": sum(int(p.infinite.sum()) for p in parts),
        "sign_mismatches": sum(
            int((p.errors.sign & b).sum()) for p, b in zip(parts, beyond, strict=True)
        ),
        "zero_sign_mismatches": sum(int(p.errors.zero_sign.sum()) for p in parts),
        "flushed": sum(int(p.explained.sum()) for p in parts),
        "lost": sum(int((p.errors.lost & b).sum()) for p, b in zip(parts, beyond, strict=True)),
        "underflow_policy": underflow.policy,
        "last_nonzero": underflow.last_nonzero if np.isfinite(underflow.last_nonzero) else None,
        "curves": curves.curves(p.measured() for p in parts),
    }
    return figures | worst_element(parts)


def worst_element(parts: Sequence[_Part]) -> dict[str, Any]:
    """The case to look at: a special-value mismatch if there is one, else the worst test ratio."""
    for part in parts:
        wrong = part.errors.nan | part.infinite
        if wrong.any():
            row, index = (int(v) for v in np.argwhere(wrong)[0])
            break
    else:
        ratio, row, index, part = _argworst(parts, "weak")
        if ratio <= 0:
            _, row, index, part = _argworst(parts, "ulp")
    if not part.rows.result.size:
        return {}
    refs = part.rows.references
    return {
        "worst_case": part.rows.cases[row].case_id,
        "worst_index": index,
        "worst": {
            "result": float(part.rows.result[row, index]),
            "exact": approximate_text(refs, row, index),
            "rounded": float(refs.rounded()[row, index]),
            "ulp": float(part.errors.ulp[row, index]),
        },
    }


def worst_elements(answered: Answered) -> list[tuple[int, float, float]]:
    """Of each row the element of the largest test ratio, its ULP error and its test ratio.

    Errors as they are: a zero that an underflow policy explains counts like any other.
    """
    errors = metrics.errors(answered.result, answered.references)
    ratio = errors.ratio(answered.bounds.weak)
    shown = np.where(np.isnan(ratio), np.inf, ratio)
    # Where the bound is that of an exact result, the error tells more than a ratio of zeros.
    worst = np.where(shown.max(axis=1) > 0, shown.argmax(axis=1), errors.ulp.argmax(axis=1))
    rows = np.arange(len(worst))
    return list(
        zip(
            worst.tolist(),
            errors.ulp[rows, worst].tolist(),
            ratio[rows, worst].tolist(),
            strict=True,
        )
    )


def approximate_text(refs: References, row: int, index: int) -> str:
    """A reference as a decimal string of the digits that are proven, 20 at most.

    References are proven to 2^-20 ulp of their format; `conformance exact` gives more digits.
    """
    import mpmath

    if refs.undefined[row, index]:
        return "undefined"
    if not refs.finite[row, index]:
        return _number(refs.rounded()[row, index])
    if abs(int(refs.exponent[row, index])) > 1 << 40:
        return "beyond every format, of sign " + ("+" if refs.hi[row, index] > 0 else "-")
    hi, lo = mpmath.mpf(float(refs.hi[row, index])), mpmath.mpf(float(refs.lo[row, index]))
    fmt = refs.format
    leading = int(refs.exponent[row, index]) - 1
    quantum = min(max(leading, fmt.emin), fmt.emax) - fmt.precision + 1
    digits = max(1, min(20, int((leading - quantum + 19) * 0.30103)))
    with mpmath.workprec(130):
        value = mpmath.ldexp(hi + lo, int(refs.exponent[row, index]))
        return str(mpmath.nstr(value, digits))
