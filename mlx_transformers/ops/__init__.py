"""Operations on arrays: a fast form beside its plain definition, which tests compare it with.

Layers, objectives and commands call them. The docstring of one that none of them calls begins its
second paragraph with "Stand-alone".
"""
