"""What a hospital may be asked to do with its own data: a closed set of typed requests.

A request is data, and so is its answer: where the hospital has a pod of its own they travel as
JSON, and elsewhere they are handed over as they are. What the hospital's data protection rests on
(floor, budget, split, rules of intake, noise) is never part of a request: a hospital reads it in
its own settings.
"""
