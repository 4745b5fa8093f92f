"""What an article on logits, softmax and cross-entropy claims, measured in every framework.

`article` has the claims and their numbers, `judge` turns figures into verdicts, `expected` holds
them against a committed file. Figures come from two places: implementations in an executor
(`ask`, `properties`, `gaps`, `speed`), and a child of its own for what is no op (`child`,
`trainers`): the article's programs and its training example, followed beside an exact trajectory
(`trajectory`). Only these children import a framework.
"""
