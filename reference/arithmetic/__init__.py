"""What an operator's formula is evaluated in.

A formula is written once, cancellation-free, over the interface of :mod:`.base`. The oracle
evaluates it in balls (midpoint and rigorous radius), :mod:`.bounds` turns the same text into an
a-priori error bound. Only ``reference`` imports this package.
"""
