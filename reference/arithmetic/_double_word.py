"""Double-word arithmetic on arrays: every number is a pair high + low with high = RN(high + low).

Values only; the balls around them live in ``_ball``, ``_ring`` and ``_functions``. u = 2^-53. Each
function states a bound of its *relative* error as a constant, valid while no operand or result
leaves 2^-900 ... 2^900 (underflowing low-order terms then cost at most 2^-1070 absolutely, below
2^-160 relatively; every constant is rounded up by far more than that).

The building blocks are algorithms 6 (sum), 7 (times a float), 10 (product) and 17 (quotient) of
Joldes, Muller, Popescu, "Tight and rigorous error bounds for basic building blocks of double-word
arithmetic", ACM TOMS 44 (2017), in their versions without fused multiply-add.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from ._eft import (
    Array,
    IntArray,
    Pair,
    fast_two_sum,
    two_prod,
    two_prod_presplit,
    two_square,
    two_sum,
)
from ._tables import (
    BITS,
    LN2_HIGH,
    LN2_LOW,
    LN2_PARTS,
    PAD,
    PER_STEP,
    STEP_1,
    STEP_2,
    STEP_3,
    STEPS,
    tables,
)
from .base import Mask

U = 2.0**-53
"""Unit roundoff of float64."""

ADD = 4 * U * U
"""Bound of :func:`add`: algorithm 6 of Joldes, Muller, Popescu has 3 u^2 / (1 - 4 u), of the
result itself, whatever cancels."""

MUL = 8 * U * U
"""Bound of :func:`mul`: algorithm 10 of Joldes, Muller, Popescu has 7 u^2."""

DIV = 16 * U * U
"""Bound of :func:`div`: algorithm 17 of Joldes, Muller, Popescu has 15 u^2 + 56 u^3."""

EXP = 2.0**-98
"""Bound of :func:`exp`; derived there (2^-98.3)."""

SMALL = 2.0**-100
"""Bound of :func:`expm1_small`; derived there."""

EXPM1 = 2.0**-96
"""Bound of :func:`expm1`; derived there."""

PHI = 2.0**-85
"""Bound of :func:`phi`; derived there."""

LOG = 2.0**-98
"""Bound of :func:`log` and :func:`log1p`; derived in :func:`log`."""

SMALL_LIMIT = 0.35
"""Arguments up to here in magnitude need no power of two beside the table."""

REDUCE_LIMIT = 709.0
"""Beyond this |N| reaches 2^24 and the argument is reduced by :func:`_reduce_far`."""

ORIGIN = 6755399441055744.0 + (1023 * STEPS + STEPS // 2)
"""1.5 * 2^52 and an offset: adding it rounds to an integer N and leaves N + offset in the low bits,
where ``bits >> BITS`` is then the biased exponent k + 1023 and ``bits & (STEPS - 1)`` the place of
j in an octave of the tables."""

_ORIGIN_BITS = int(np.float64(ORIGIN).view(np.int64))

FIRST = _ORIGIN_BITS - STEPS // 2 - PAD
"""``bits - FIRST`` is the place of N in the whole tables, for |N| <= STEPS / 2 + PAD."""

_LOW_6 = float(Fraction(1, 6) - Fraction(1 / 6))
"""What the float64 number 1/6 leaves of the fraction."""


def total_bound(levels: int) -> float:
    """Return the bound of :func:`total` for a tree of so many levels, relative to sum |x|."""
    return (levels + 2.0) ** 2 * U * U


def add(xh: Array, xl: Array, yh: Array, yl: Array) -> Pair:
    """Return x + y within ``ADD`` (algorithm 6, AccurateDWPlusDW)."""
    sh, sl = two_sum(xh, yh)
    th, tl = two_sum(xl, yl)
    vh, vl = fast_two_sum(sh, sl + th)
    return fast_two_sum(vh, tl + vl)


def mul(xh: Array, xl: Array, yh: Array, yl: Array) -> Pair:
    """Return x y within ``MUL`` (algorithm 10, DWTimesDW1)."""
    p, e = two_prod(xh, yh)
    return fast_two_sum(p, e + (xh * yl + xl * yh))


def div(xh: Array, xl: Array, yh: Array, yl: Array) -> Pair:
    """Return x / y within ``DIV`` (algorithm 17, DWDivDW2, with algorithm 7 inside)."""
    q = xh / yh
    p, e = two_prod(yh, q)
    th, tl = fast_two_sum(p, yl * q)
    rh, rl = fast_two_sum(th, tl + e)
    return fast_two_sum(q, ((xh - rh) + (xl - rl)) / yh)


def total(high: Array, low: Array) -> Pair:
    """Return the sums over the *first* axis, within ``total_bound(levels)`` of sum |x|.

    The class axis is halved ceil(log2 n) = H times. A node adds two nodes: s = RN(ha + hb) with
    its exact error e (two_sum), and l = RN(RN(la + lb) + e). The high parts and the e lose
    nothing; only the low parts are rounded. Write X = sum |x_i|, A_m = sum |s| and L_m = sum |l|
    over the nodes of level m. Then A_m <= X (1 + u)^(m+1) and L_m <= (1 + u)^2 (L_(m-1) + u A_m),
    L_0 <= u X, hence L_m <= (m + 1) u X to first order, and the roundings of level m cost at most
    u L_(m-1) + u L_m <= (2 m + 1) u^2 X. Summed: (H^2 + 2 H) u^2 X; (H + 2)^2 leaves 4 u^2 X for
    the terms of higher order, which are below 10 H^3 u^3 X. The final two_sum is exact.
    """
    h, count = high, len(high)
    while count > 1:
        half = (count + 1) // 2
        rest = count - half
        s, e = two_sum(h[:rest], h[half:count])
        t = (low[:rest] + low[half:count]) + e
        if rest < half:
            s = np.concatenate((s, h[rest:half]))
            t = np.concatenate((t, low[rest:half]))
        h, low, count = s, t, half
    return two_sum(h[0], low[0])


def reduce(dh: Array, dl: Array) -> tuple[Array, Array, IntArray]:
    """Return (rh, rl, N): d = N ln 2 / 2^B + r with |r| < 2^-15.5, and N as bits of ``ORIGIN + N``.

    L = ln 2 / 2^B = L1 + L2 + L3 + (below 2^-125). |N| < 2^24 because |d| <= ``REDUCE_LIMIT``.
    N = rint(dh / L) up to a rounding of the quotient, so |dh - N L| <= L/2 (1 + 2^-27). N L1 is
    exact (24 + 29 bits). t = dh - N L1 is exact: for N != 0, |dh| >= 2^-15.53, so both are
    multiples of 2^-68, and |t| <= L/2 (1 + 2^-27) + |N| 2^-43.5 < 2^-15 = 2^53 2^-68. N L2 is
    exact, and so are the errors e1, e2 of the two two_sum. What is rounded is N L3 (|N L3| <=
    2^-48.5), e1 + e2 (<= 2^-67), and their difference. Hence

        |error of r| <= 2 u 2^-48.5 + u 2^-67 + 2^24 2^-125 < 2^-100.4,

    and, as these terms are proportional to N, at most 2^-104.5 |d|; for N = 0 it is 0. The last
    two_sum is exact and normalises: |rl| <= u |rh|.
    """
    shifted = dh * PER_STEP + ORIGIN
    n = shifted - ORIGIN
    s, e = two_sum(dh - n * STEP_1, n * -STEP_2)
    if dl.any():
        s, e2 = two_sum(s, dl)
        e = e + e2
    rh, rl = two_sum(s, e - n * STEP_3)
    return rh, rl, shifted.view(np.int64)


def _reduce_far(dh: Array, dl: Array) -> tuple[Array, Array, IntArray]:
    """Return (ch, cl, k): d = k ln 2 + c for 700 < |d| <= 2^50, with |c| < 1.

    k = rint(dh / ln 2) < 2^51; the rounding of the quotient leaves |c| <= 0.9 ln 2. The products
    of k with the first three parts of ln 2 are exact as pairs, what is below them is less than
    2^51 2^-159. dh - ph is exact by Sterbenz' lemma, the sum with dl is exact; four additions of
    double words below 1 cost 4 u^2 each: c is within 2^-101.8.
    """
    k = np.rint(dh / LN2_HIGH)
    zero = np.zeros_like(k)
    products = [two_prod(k, zero + part) for part in LN2_PARTS]
    (ph, pl), (sh, sl), (qh, _) = products
    ch, cl = two_sum(dh - ph, dl)
    for term in (pl, sh, sl, qh):
        ch, cl = add(ch, cl, -term, zero)
    return ch, cl, k.astype(np.int64)


def exp(dh: Array, dl: Array) -> tuple[Array, Array, IntArray]:
    """Return (h, l, k) with e^d = (h + l) 2^k within ``EXP``, 0.7 < h < 1.42, for |d| <= 2^50.

    With r and N from :func:`reduce`, j = N mod 2^B in [-2^(B-1), 2^(B-1)) and T = 2^(j / 2^B):
    e^d = 2^k T (1 + p), p = e^r - 1, computed as p = rh + rh^2 / 2 + low,

        low = (low part of rh^2) / 2 + rl (1 + rh + rh^2 / 2) + rh^3 (1/6 + rh/24 + rh^2/120
              + rh^3/720).

    Errors, as parts of e^d (|rh| < 2^-15.52):
    series cut at r^7/5040 and products of rl left out: below 2^-110; c = r^3/6 < 2^-49.1 carries
    rh^2 rounded, two products, the rounded polynomial (coefficient and sum): 5.1 u c < 2^-99.8;
    sums in ``low``, the last of which reaches c: 1.1 u c < 2^-102; r itself 2^-100.4; T 2^-106;
    T rh exact as a pair; T low and the two sums that reach it: 3.1 u 2^-49.1 < 2^-100.4;
    six roundings of terms below u: 6 u^2 < 2^-103. Together below 2^-98.3.
    """
    table = tables()
    far = np.abs(dh) > REDUCE_LIMIT
    extra: IntArray | None = None
    if far.any():
        ch, cl, k = _reduce_far(dh[far], dl[far])
        dh, dl, extra = dh.copy(), dl.copy(), np.zeros(dh.shape, np.int64)
        dh[far], dl[far], extra[far] = ch, cl, k
    rh, rl, bits = reduce(dh, dl)
    index = bits & (STEPS - 1)
    k = (bits >> BITS) - (_ORIGIN_BITS >> BITS)
    if extra is not None:
        k += extra
    qh, ql = two_square(rh)
    half = 0.5 * qh
    ph, pe = fast_two_sum(rh, half)
    cubic = (rh * qh) * (1 / 6 + rh * (1 / 24 + rh * (1 / 120 + rh * (1 / 720))))
    low = ((0.5 * ql + pe) + (rl + rl * ph)) + cubic
    th = table.octave_high.take(index)
    ah = table.octave_split.take(index)
    tl = table.octave_low.take(index)
    m, me = two_prod_presplit(th, ah, th - ah, ph)
    sh, se = fast_two_sum(th, m)
    h, low = fast_two_sum(sh, (se + (tl + (tl * ph + me))) + th * low)
    return h, low, k


def power_of_two(bits: IntArray) -> Array:
    """Return 2^k from the bits of ``ORIGIN + N``, for -1022 <= k <= 1023."""
    return ((bits >> BITS) << 52).view(np.float64)


def scale(h: Array, low: Array, k: IntArray) -> Pair:
    """Return (h + l) 2^k for -1022 <= k <= 1023."""
    factor = ((k + 1023) << 52).view(np.float64)
    return h * factor, low * factor


def _phi_reduced(rh: Array, rl: Array) -> Pair:
    """Return phi(r) = e^r - 1 - r for |r| < 2^-15.52, within 2^-85.5.

    phi(r) = r^2 g, g = 1/2 + r (1/6 + w), w = r v, v = 1/24 + r/120 + ... + r^4/40320 in float64.
    v is within 2.1 u (its first coefficient and its last sum), w within 4.1 u (the product, and
    rl v left out); |w| < 2^-20.1, so the error of r w is below 2^-86.6, relative to g = 1/2 below
    2^-85.6. The series (2^-119) and the double-word operations (below 25 u^2 together) add less
    than 2^-101. Relative to r, which is what matters for e^r - 1, that is 2^-102.
    """
    v = 1 / 24 + rh * (1 / 120 + rh * (1 / 720 + rh * (1 / 5040 + rh * (1 / 40320))))
    w = rh * v
    gh = 1 / 6 + w
    gl = (w - (gh - 1 / 6)) + _LOW_6
    fh, fl = two_prod(gh, rh)
    fl = fl + (gh * rl + gl * rh)
    gh = 0.5 + fh
    gl = (fh - (gh - 0.5)) + fl
    qh, ql = two_square(rh)
    ql = ql + 2.0 * (rh * rl)
    ph, pl = two_prod(qh, gh)
    return fast_two_sum(ph, pl + (qh * gl + ql * gh))


def expm1_small(dh: Array, dl: Array) -> Pair:
    """Return e^d - 1 for |d| <= ``SMALL_LIMIT``, within ``SMALL``.

    e^d - 1 = M + T p with M = T - 1 from the table and p = r + phi(r), which is within 2^-102 +
    4 u^2. For N = 0, M = 0 and T = 1: the product and the sum add 12 u^2, together below 2^-101.
    Otherwise |M| >= 0.99 L and |T p| <= 0.52 |M|, so that |M + T p| >= 0.47 |M| and
    |d| <= 1.25 |e^d - 1|. The error of r is 2^-104.5 |d|. Relative to the result:
    2^-104.1 + 1.11 (2^-102 + 12 u^2) + 2.2 2^-106 + 4 u^2 < 2^-100.3.
    """
    table = tables()
    rh, rl, bits = reduce(dh, dl)
    index = bits - FIRST
    ph, pl = add(rh, rl, *_phi_reduced(rh, rl))
    ph, pl = mul(ph, pl, table.power_high.take(index), table.power_low.take(index))
    return add(table.minus_one_high.take(index), table.minus_one_low.take(index), ph, pl)


def expm1(dh: Array, dl: Array) -> Pair:
    """Return e^d - 1 for |d| <= 602, within ``EXPM1``.

    Beyond ``SMALL_LIMIT`` it is (e^d)(1 + EXP) - 1, which magnifies the error of the exponential
    by e^d / |e^d - 1| <= 3.4: 2^-96.2 with the addition's 4 u^2.
    """
    small = np.abs(dh) <= SMALL_LIMIT
    if small.all():
        return expm1_small(dh, dl)
    h, low = scale(*exp(dh, dl))
    h, low = add(h, low, np.full_like(h, -1.0), np.zeros_like(h))
    if small.any():
        h[small], low[small] = expm1_small(dh[small], dl[small])
    return h, low


def phi(ch: Array, cl: Array) -> Pair:
    """Return e^c - 1 - c for |c| <= 602, within ``PHI``.

    Up to ``SMALL_LIMIT``: phi(c) = Q + M r + T phi(r), with Q = T - 1 - N L from the table.
    For N = 0 that is phi(r), 2^-85.5. Otherwise let a = |N| L >= 2 |r| (1 - 2^-26). Then
    T phi(r) <= 1.01 phi(c), because |r| <= |c|; phi(c) >= 0.11 a^2, |Q| <= 0.57 a^2 and
    |M r| <= 0.6 a^2. An error of 2^-104.5 a in r enters through |M + phi'(r) T| <= 1.9 a, which is
    2^-100 phi(c); products (8 and 16 u^2), sums (4 u^2) and the table (2^-106) cost less than
    (0.6 * 8 + 0.19 * 16 + 1.4 * 9) u^2 / 0.11 < 2^-98. Together below 2^-85.4.
    Beyond: (e^c) - 1 - c, whose error (e^c EXP + 8 u^2 (|e^c - 1| + |c|)) / phi(c) is largest at
    c = 0.35: 20.6 EXP + 90 u^2 < 2^-93.
    """
    small = np.abs(ch) <= SMALL_LIMIT
    if small.all():
        return _phi_small(ch, cl)
    h, low = scale(*exp(ch, cl))
    h, low = add(h, low, np.full_like(h, -1.0), np.zeros_like(h))
    h, low = add(h, low, -ch, -cl)
    if small.any():
        h[small], low[small] = _phi_small(ch[small], cl[small])
    return h, low


def _phi_small(ch: Array, cl: Array) -> Pair:
    table = tables()
    rh, rl, bits = reduce(ch, cl)
    index = bits - FIRST
    fh, fl = _phi_reduced(rh, rl)
    fh, fl = mul(fh, fl, table.power_high.take(index), table.power_low.take(index))
    gh, gl = mul(rh, rl, table.minus_one_high.take(index), table.minus_one_low.take(index))
    gh, gl = add(gh, gl, table.remainder_high.take(index), table.remainder_low.take(index))
    return add(gh, gl, fh, fl)


def log(th: Array, tl: Array, k: Array | None) -> tuple[Array, Array, Mask]:
    """Return log(1 + t) + k ln 2 as (high, low, trusted) for -0.293 <= t <= 0.4143, within ``LOG``.

    One Newton step from y = log1p(th) of the libm, *whose accuracy is not assumed but seen*:
    z = (1 + t) e^-y - 1 = t + E + t E with E = e^-y - 1, and log(1 + t) = y + log1p(z), where
    log1p(z) = z - z^2 / 2 up to |z|^3. ``trusted`` is False where |z| > 2^-44 |t|: there the libm
    was too wrong, and nothing is claimed.

    With |E| (1 - |y|) <= |t| and E (1 + t) = -t up to z: E is within ``SMALL``, which enters z as
    SMALL |t|; t E within 8 u^2 0.42 |t|; t + E within 4 u^2 |t E|; the sum 4 u^2 |z|. z^3 < 2^-131
    |t|; z - z^2/2 rounded in its low part: 2 u^2 2^-44. So z is within (SMALL + 6 u^2) |t|, and
    |t| <= 1.2 |log(1 + t)|. The final sum adds 4 u^2: 1.2 (2^-100 + 6 u^2) + 4 u^2 < 2^-98.9.
    With k != 0, |log(1 + t)| <= 0.3466 <= |k ln 2| / 2 - so the sum is at least half of |k ln 2|,
    which is within 9 u^2: the result is within 2^-98.9 + 18 u^2 + 4 u^2 < 2^-98.
    """
    y = np.log1p(th)
    zero = np.zeros_like(y)
    eh, el = expm1_small(-y, zero)
    zh, zl = add(th, tl, eh, el)
    zh, zl = add(zh, zl, *mul(th, tl, eh, el))
    trusted = np.abs(zh) <= 2.0**-44 * np.abs(th)
    high, low = add(y, zero, *fast_two_sum(zh, zl - 0.5 * (zh * zh)))
    if k is not None:
        kh, kl = mul(k, zero, LN2_HIGH + zero, LN2_LOW + zero)
        high, low = add(kh, kl, high, low)
    return high, low, trusted


def log_argument(ah: Array, al: Array) -> tuple[Array, Array, Array]:
    """Return (th, tl, k): a = (1 + t) 2^k with 1 + t between the square roots of 1/2 and 2, exact.

    m - 1 is exact by Sterbenz' lemma for 1/2 <= m <= 2.
    """
    m, e = np.frexp(ah)
    low = m < math.sqrt(0.5)
    e = e - low
    m = np.where(low, 2.0 * m, m)
    th, tl = two_sum(m - 1.0, np.ldexp(al, -e))
    return th, tl, e.astype(np.float64)


def log1p(th: Array, tl: Array) -> tuple[Array, Array, Mask]:
    """Return log(1 + t) as (high, low, trusted) for -1 < t < 2^900, within ``LOG``.

    Outside -0.29 ... 0.41 the sum 1 + t is taken first; it is within 3 u^2 of itself, which costs
    3 u^2 / |log(1 + t)| <= 9 u^2 (inside ``LOG``).
    """
    inner = (th >= -0.29) & (th <= 0.41)
    if inner.all():
        return log(th, tl, None)
    one = np.ones_like(th)
    ah, al = add(one, np.zeros_like(th), np.where(inner, 0.0, th), np.where(inner, 0.0, tl))
    uh, ul, k = log_argument(ah, al)
    return log(np.where(inner, th, uh), np.where(inner, tl, ul), np.where(inner, 0.0, k))
