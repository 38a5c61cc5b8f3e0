"""Operations on arrays: a fast form beside its plain definition, which tests compare it with.

Layers, objectives and commands call every one of them.
"""
