"""Update rules and the stages around them: pure functions of one parameter, and their grammar.

Every engine runs these very functions, and those of the classes. Knows no array library and no
engine.
"""
