"""NumPy: the shifted, cancellation-free formulas with all their derivatives.

NumPy has none of these ops but `numpy.logaddexp`, so these are the textbook formulas, written as
one should write them. Notation of docs/contract.md: m = max x, d = x - m, e = exp(d), S = sum e,
s = softmax(x), l = log_softmax(x), g a cotangent, v a tangent.

============================  ====================================================
`rows`                        what ops on rows of logits have in common
`softmaxes`                   softmax, masked_softmax, log_softmax, logsumexp
`cross_entropies`             softmax_cross_entropy, with soft targets and with labels
`categorical_entropy`         the entropy of softmax(x)
`kl_divergence`, `pairs`      the divergence of two rows of logits
`elementwise`                 sigmoid, log_sigmoid, softplus, logaddexp
`sigmoid_cross_entropy`       with and without pos_weight
`instrument`                  controls and mutants
`unsound`                     what people write instead: antipatterns
============================  ====================================================

Everything is computed in the dtype of x, except in the half formats: bfloat16 and float16 are
computed in float32 inside and rounded once at the end.
"""
