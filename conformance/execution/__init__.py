"""How an implementation is run: in a child process that may crash, hang or lie, or in this one.

The parent's side: `executor` (requests in, answers out, restarts, halving), `process` (one child,
its deadline and its memory), `watch`, `processes`. The child's: `child` (the script), `guard`,
`service`, `runner`, `state` and `switches` (what a call must not change), `namespaces`,
`leftovers`. Between them: `protocol` (what is said) and `wire` (how it travels). `inprocess` is the
same interface without a child.
"""
