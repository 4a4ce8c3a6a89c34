"""Update rules and the stages around them: pure functions of one parameter, and their grammar.

Every engine runs these functions themselves. The package knows neither array libraries nor
engines.
"""
